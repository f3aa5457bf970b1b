#include "ops/activation/activation.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

const std::vector<Shape> kShapes = {{1}, {13}, {3, 5, 37}, {2, 64}, {67, 131}};
constexpr ActivationKind kKinds[] = {ActivationKind::kNone, ActivationKind::kGeluTanh, ActivationKind::kSilu,
                                     ActivationKind::kRelu2};

TEST(Activation, Cases) {
  for (const ActivationKind kind : kKinds)
    for (const Shape& shape : kShapes)
      run_op_case({.name = fmt::format("{} {}", activation_name(kind), shape.to_string()),
                   .write =
                       [&](Builder& b, DType dtype) {
                         b.mark_output(b.emit(Activation{{.kind = kind}}, {b.input("x", shape, dtype)}), "y");
                       },
                   .fill_scale = 2});
}

TEST(Activation, GatedCases) {
  for (const ActivationKind kind : kKinds)
    for (const Shape& shape : kShapes)
      run_op_case({.name = fmt::format("gated {} {}", activation_name(kind), shape.to_string()),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId gate = b.input("gate", shape, dtype), up = b.input("up", shape, dtype);
                         b.mark_output(b.emit(GatedActivation{{.kind = kind}}, {gate, up}), "y");
                       },
                   .fill_scale = 2});
}

// Far out the functions are 0 or x and their slopes 0 or 1: no inf * 0, and the negative tail keeps its digits.
TEST(Activation, LargeArgumentsStayFinite) {
  const double extremes[] = {0, 1e-30, -1e-30, 5, -5, 9, -9, 13, -13, 40, -40, 1e4, -1e4, 1e15, -1e15};
  for (const ActivationKind kind : {ActivationKind::kGeluTanh, ActivationKind::kSilu})
    for (const double extreme : extremes)  // one at a time, so that each is compared at its own size
      run_op_case({.name = fmt::format("{} at {}", activation_name(kind), extreme),
                   .write =
                       [&](Builder& b, DType dtype) {
                         b.mark_output(b.emit(Activation{{.kind = kind}}, {b.input("x", {1}, dtype)}), "y");
                       },
                   .fill =
                       [&](const Tensor& tensor, View view) {
                         // A central difference needs its step to be seen.
                         const double most = view.dtype == DType::kF64 ? 9 : 1e15;
                         if (tensor.name == "x") view.set(0, std::clamp(extreme, -most, most));
                       },
                   // Near its end the negative tail shrinks by exp(-u): an ulp of u = 80 is 8e-6 of the value.
                   .tolerance_scale = 10});
}

TEST(Activation, ErrorsNameOpAndOperand) {
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(GatedActivation{}, {b.input("gate", {4}, DType::kF32), b.input("up", {4}, DType::kBF16)});
              }),
              testing::HasSubstr("gated_activation.up: got [4] bf16; needed [4] f32, like gate"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Activation{}, {b.input("x", {4}, DType::kU8)}); }),
              testing::HasSubstr("activation.x: got [4] u8; needed a float type"));
}

}  // namespace
}  // namespace colossus
