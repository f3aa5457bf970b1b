#include "ops/grad_norm/grad_norm.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

TEST(GradNorm, Cases) {
  const std::vector<std::vector<Shape>> cases = {
      {Shape{}}, {{1}, {13}, {37, 41}}, {{16384}, {50001}, {2, 3, 5}, {16385}}, std::vector<Shape>(40, Shape{7})};
  for (const std::vector<Shape>& shapes : cases)
    for (const double scale : {1.0, 1e25})  // squares beyond fp32
      run_op_case({.name = fmt::format("{} tensors of about {}", shapes.size(), scale),
                   .write =
                       [&](Builder& b, DType dtype) {
                         std::vector<TensorId> grads;
                         for (size_t i = 0; i < shapes.size(); ++i)
                           grads.push_back(b.declare(fmt::format("grad.{}", i), {shapes[i], dtype}, Role::kGradient));
                         b.mark_output(b.emit(GradNorm{}, grads), "norm");
                       },
                   .check_gradient = false,
                   .dtypes = {DType::kF32},
                   .fill_scale = scale});
}

float norm_of(std::vector<float> values) {
  ThreadPool pool(2);
  float norm = 0;
  std::vector<double> workspace(16);
  const View input = {reinterpret_cast<std::byte*>(values.data()), {static_cast<int64_t>(values.size())}, DType::kF32};
  const View output = {reinterpret_cast<std::byte*>(&norm), {}, DType::kF32};
  run_cpu(GradNorm{}, CpuCall(pool, &input, 1, &output, 1, reinterpret_cast<std::byte*>(workspace.data()), nullptr));
  return norm;
}

TEST(GradNorm, OneBadElementShows) {
  for (const size_t at : {size_t{0}, size_t{31}, size_t{20000}, size_t{39999}}) {
    std::vector<float> values(40000, 0.5F);
    EXPECT_FLOAT_EQ(norm_of(values), 100);
    values[at] = kNan;
    EXPECT_TRUE(std::isnan(norm_of(values))) << at;
    values[at] = -kInfinity;
    EXPECT_EQ(norm_of(values), kInfinity) << at;
  }
}

TEST(ClipScale, Cases) {
  for (const double max_norm : {0.0, 0.5, 100.0})
    for (const bool with_loss : {false, true})
      run_op_case({.name = fmt::format("max_norm {}{}", max_norm, with_loss ? ", loss" : ""),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId norm = b.input("norm", {}, dtype);
                         const TensorId loss = with_loss ? b.input("loss", {}, dtype) : TensorId{};
                         b.mark_output(b.emit(ClipScale{.max_norm = max_norm}, {norm, loss}), "scale");
                       },
                   .fill = [](const Tensor&, View view) { view.set(0, 2.5); },
                   .check_gradient = false,
                   .dtypes = {DType::kF32}});
}

TEST(ClipScale, NotFiniteBecomesNan) {
  struct {
    float norm, loss;
  } const cases[] = {{kNan, 1}, {kInfinity, 1}, {1, kNan}, {1, -kInfinity}};
  ThreadPool pool(1);
  for (auto c : cases)
    for (const double max_norm : {0.0, 1.0}) {
      float fast = 0, plain = 0;
      const View inputs[] = {{reinterpret_cast<std::byte*>(&c.norm), {}, DType::kF32},
                             {reinterpret_cast<std::byte*>(&c.loss), {}, DType::kF32}};
      const View to_fast = {reinterpret_cast<std::byte*>(&fast), {}, DType::kF32},
                 to_plain = {reinterpret_cast<std::byte*>(&plain), {}, DType::kF32};
      run_cpu(ClipScale{max_norm}, CpuCall(pool, inputs, 2, &to_fast, 1, nullptr, nullptr));
      run_reference(ClipScale{max_norm}, CpuCall(pool, inputs, 2, &to_plain, 1, nullptr, nullptr));
      EXPECT_TRUE(std::isnan(fast) && std::isnan(plain)) << c.norm << " " << c.loss << " " << max_norm;
    }
}

TEST(GradNorm, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) { b.emit(GradNorm{}, {b.input("g", {3}, DType::kBF16)}); }),
              HasSubstr("grad_norm.grads: got [3] bf16; needed f32"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(ClipScale{}, {b.input("norm", {2}, DType::kF32)}); }),
              HasSubstr("clip_scale.norm: got [2] f32; needed []"));
}

}  // namespace
}  // namespace colossus
