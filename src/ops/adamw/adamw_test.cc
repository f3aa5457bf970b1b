#include "ops/adamw/adamw.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

void emit_adamw(Builder& b, const AdamW& op, const Shape& shape, DType dtype) {
  const TensorId param = b.parameter("w", shape, dtype), grad = b.declare("grad.w", {shape, dtype}, Role::kGradient);
  const TensorId m = b.declare("m", {shape, dtype}, Role::kOptimizerState),
                 v = b.declare("v", {shape, dtype}, Role::kOptimizerState);
  const TensorId lr = b.input("lr", {}, dtype), step = b.input("step", {}, DType::kI64),
                 scale = b.input("scale", {}, dtype);
  b.emit(op, {param, grad, m, v, lr, step, scale});
}

void fill_state(const Tensor& tensor, View view, int64_t step, double scale) {
  for (int64_t i = 0; tensor.name == "v" && i < view.num_elements(); ++i) view.set(i, std::abs(view.get(i)));
  if (tensor.name == "lr") view.set(0, 0.02);
  if (tensor.name == "step") view.set(0, static_cast<double>(step));
  if (tensor.name == "scale") view.set(0, scale);
}

TEST(AdamW, Cases) {
  const AdamW ops[] = {{}, {.beta1 = 0.8, .beta2 = 0.999, .eps = 1e-6, .weight_decay = 0.1}};
  const Shape shapes[] = {{1}, {13}, {37, 41}, {3, 16, 64}, {5000}};
  for (const AdamW& op : ops)
    for (const Shape& shape : shapes)
      for (const int64_t step : {1, 2, 100000})
        for (const double scale : {1.0, 0.25, std::numeric_limits<double>::quiet_NaN()})
          run_op_case({.name = fmt::format("{} step {} scale {} weight_decay {}", shape.to_string(), step, scale,
                                           op.weight_decay),
                       .write = [&](Builder& b, DType dtype) { emit_adamw(b, op, shape, dtype); },
                       .fill = [&](const Tensor& tensor, View view) { fill_state(tensor, view, step, scale); },
                       .check_gradient = false,
                       .dtypes = {DType::kF32}});
}

// Whatever the size of the gradient, the first step moves each weight by lr.
TEST(AdamW, FirstStepMovesByLearningRate) {
  float param[] = {1, 2, 3}, grad[] = {1e-3F, -5, 100}, m[3] = {}, v[3] = {}, lr = 0.1F, scale = 1;
  int64_t step = 1;
  const auto view = [](auto& array, DType dtype, Shape shape) {
    return View{reinterpret_cast<std::byte*>(&array), std::move(shape), dtype};
  };
  const View inputs[] = {view(param, DType::kF32, {3}), view(grad, DType::kF32, {3}), view(m, DType::kF32, {3}),
                         view(v, DType::kF32, {3}),     view(lr, DType::kF32, {}),    view(step, DType::kI64, {}),
                         view(scale, DType::kF32, {})};
  ThreadPool pool(1);
  run_cpu(AdamW{}, CpuCall(pool, inputs, 7, nullptr, 0, nullptr, nullptr));
  EXPECT_NEAR(param[0], 0.9, 1e-5);
  EXPECT_NEAR(param[1], 2.1, 1e-5);
  EXPECT_NEAR(param[2], 2.9, 1e-5);
}

TEST(AdamW, NanScaleTouchesNothing) {
  float param[] = {1, 2}, grad[] = {1, 1}, m[2] = {3, 4}, v[2] = {5, 6}, lr = 0.1F,
        scale = std::numeric_limits<float>::quiet_NaN();
  int64_t step = 1;
  const auto view = [](auto& array, DType dtype, Shape shape) {
    return View{reinterpret_cast<std::byte*>(&array), std::move(shape), dtype};
  };
  const View inputs[] = {view(param, DType::kF32, {2}), view(grad, DType::kF32, {2}), view(m, DType::kF32, {2}),
                         view(v, DType::kF32, {2}),     view(lr, DType::kF32, {}),    view(step, DType::kI64, {}),
                         view(scale, DType::kF32, {})};
  ThreadPool pool(1);
  run_cpu(AdamW{}, CpuCall(pool, inputs, 7, nullptr, 0, nullptr, nullptr));
  run_reference(AdamW{}, CpuCall(pool, inputs, 7, nullptr, 0, nullptr, nullptr));
  EXPECT_THAT(param, testing::ElementsAre(1, 2));
  EXPECT_THAT(m, testing::ElementsAre(3, 4));
  EXPECT_THAT(v, testing::ElementsAre(5, 6));
}

TEST(AdamW, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) { emit_adamw(b, {.beta2 = 1}, {3}, DType::kF32); }),
              HasSubstr("adamw.beta2: got 1; needed"));
  EXPECT_THAT(write_error([](Builder& b) { emit_adamw(b, {}, {3}, DType::kBF16); }),
              HasSubstr("adamw.param: got [3] bf16; needed f32"));
}

}  // namespace
}  // namespace colossus
