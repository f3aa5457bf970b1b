#include "ops/muon/muon.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

struct Step {
  MuonMomentum momentum = {};
  Muon muon = {};
};

// `shape`: of whole matrices.
void emit_muon(Builder& b, const Step& step, const Shape& shape, DType dtype) {
  const int cut = shape.rank() - (step.muon.of_columns ? 1 : 2);
  const Shape part = step.muon.parts > 1 ? shape.with(cut, shape[cut] / step.muon.parts) : shape;
  const TensorId param = b.parameter("w", part, dtype), grad = b.declare("grad.w", {shape, dtype}, Role::kGradient);
  const TensorId buffer = b.declare("momentum", {shape, dtype}, Role::kOptimizerState);
  const TensorId scale = b.input("scale", {}, dtype);
  const TensorId direction = b.emit(step.momentum, {grad, buffer, scale});
  b.emit(step.muon, {param, direction, b.input("lr", {}, dtype), scale});
}

TEST(Muon, Cases) {
  const Step steps[] = {{},
                        {{.momentum = 0}, {.iterations = 2, .weight_decay = 0.1}},
                        {{}, {.iterations = 0}},
                        {{}, {.weight_decay = 0.1, .parts = 3, .part = 2}},
                        {{}, {.weight_decay = 0.1, .parts = 3, .part = 1, .of_columns = true}}};
  const Shape shapes[] = {{1, 1}, {1, 13}, {37, 1}, {7, 13}, {64, 37}, {37, 64}, {48, 48}, {3, 20, 11}, {2, 18, 33}};
  for (const Step& step : steps)
    for (const Shape& shape : shapes) {
      if (shape[step.muon.of_columns ? -1 : -2] % step.muon.parts != 0) continue;
      for (const double scale : {0.25, std::numeric_limits<double>::quiet_NaN()})
        run_op_case({.name = fmt::format("{} iterations {} part {} of {} scale {}", shape.to_string(),
                                         step.muon.iterations, step.muon.part, step.muon.parts, scale),
                     .write = [&](Builder& b, DType dtype) { emit_muon(b, step, shape, dtype); },
                     .fill =
                         [&](const Tensor& tensor, View view) {
                           if (tensor.name == "lr") view.set(0, 0.05);
                           if (tensor.name == "scale") view.set(0, scale);
                         },
                     .check_gradient = false,
                     .dtypes = {DType::kF32}});
    }
}

// More than are worked on at once, the last time fewer.
TEST(Muon, ManyMatrices) {
  run_op_case({.name = "many matrices",
               .write =
                   [&](Builder& b, DType dtype) {
                     emit_muon(b, {}, {301, 2, 3}, dtype);
                   },
               .fill =
                   [&](const Tensor& tensor, View view) {
                     if (tensor.name == "lr") view.set(0, 0.05);
                     if (tensor.name == "scale") view.set(0, 0.25);
                   },
               .check_gradient = false,
               .dtypes = {DType::kF32}});
}

// From a zero parameter and lr = 1, -param is the orthogonalised gradient, times sqrt(cols / rows) for this wide one:
// its rows are nearly orthogonal and all of that length.
TEST(Muon, StepIsNearlyOrthogonal) {
  constexpr int64_t kRows = 24, kCols = 200;
  std::vector<float> param(kRows * kCols), direction(param.size());
  for (size_t i = 0; i < direction.size(); ++i)
    direction[i] = static_cast<float>(random_normal({.seed = 1, .purpose = RngPurpose::kTest}, i));
  float lr = 1, scale = 1;
  const auto view = [](float* data, Shape shape) {
    return View{reinterpret_cast<std::byte*>(data), std::move(shape), DType::kF32};
  };
  const Shape shape = {kRows, kCols};
  const View inputs[] = {view(param.data(), shape), view(direction.data(), shape), view(&lr, {}), view(&scale, {})};
  const TensorType type = {shape, DType::kF32}, scalar = {{}, DType::kF32};
  CpuPrepare prepare(OpShapes({type, type, scalar, scalar}, {}), 2);
  prepare_cpu(Muon{}, prepare);
  std::vector<std::byte> workspace(static_cast<size_t>(prepare.workspace_bytes) + 64);
  std::byte* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64;
  ThreadPool pool(2);
  run_cpu(Muon{}, CpuCall(pool, inputs, 4, nullptr, 0, aligned, nullptr));
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (int64_t c = 0; c < kCols; ++c)
        dot +=
            static_cast<double>(param[static_cast<size_t>(i * kCols + c)]) * param[static_cast<size_t>(j * kCols + c)];
      dot /= static_cast<double>(kCols) / kRows;
      // Singular values lie between about 0.7 and 1.2.
      EXPECT_NEAR(dot, i == j ? 1.0 : 0.0, i == j ? 0.5 : 0.25) << i << " " << j;
    }
}

TEST(Muon, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) { emit_muon(b, {}, {3}, DType::kF32); }),
              HasSubstr("muon.param: got [3] f32; needed a matrix"));
  EXPECT_THAT(write_error([](Builder& b) {
                emit_muon(b, {{.momentum = 1}, {}}, {3, 4}, DType::kF32);
              }),
              HasSubstr("muon_momentum.momentum: got 1; needed"));
  EXPECT_THAT(write_error([](Builder& b) {
                emit_muon(b, {{}, {.parts = 2, .part = 2}}, {4, 4}, DType::kF32);
              }),
              HasSubstr("muon.part: got part 2 of 2"));
}

}  // namespace
}  // namespace colossus
