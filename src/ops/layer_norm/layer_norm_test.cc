#include "ops/layer_norm/layer_norm.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

const std::vector<Shape> kShapes = {{1, 1, 2}, {1, 1, 37}, {3, 5, 13}, {2, 37, 64}, {1, 211, 128}, {5, 1, 131}, {17}};

TEST(LayerNorm, Cases) {
  for (const Shape& shape : kShapes)
    for (const bool with_bias : {false, true})
      run_op_case({.name = fmt::format("{}{}", shape.to_string(), with_bias ? " with bias" : ""),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId x = b.input("x", shape, dtype);
                         const TensorId scale = b.parameter("scale", {shape[-1]}, parameter_dtype(dtype));
                         const TensorId bias =
                             with_bias ? b.parameter("bias", {shape[-1]}, parameter_dtype(dtype)) : TensorId{};
                         b.mark_output(b.emit(LayerNorm{.eps = 1e-3}, {x, scale, bias}), "y");
                       },
                   // Two columns are always normed to about -1 and 1: the gradient of x all but vanishes.
                   .cancelling_terms = shape[-1] == 2 ? 10.0 : 0.0});
}

// A row of one element has no spread: the norm is 0 and only the bias is left.
TEST(LayerNorm, OneColumn) {
  run_op_case({.name = "[7, 1]",
               .write =
                   [](Builder& b, DType dtype) {
                     const TensorId x = b.input("x", {7, 1}, dtype);
                     const TensorId scale = b.parameter("scale", {1}, parameter_dtype(dtype));
                     const TensorId bias = b.parameter("bias", {1}, parameter_dtype(dtype));
                     b.mark_output(b.emit(LayerNorm{}, {x, scale, bias}), "y");
                   },
               .cancelling_terms = 300});  // 1 / sqrt(eps)
}

// mean(x^2) - mean(x)^2 would have no correct digit here.
TEST(LayerNorm, MeanFarFromZero) {
  run_op_case({.name = "mean 3000",
               .write =
                   [](Builder& b, DType dtype) {
                     const TensorId x = b.input("x", {5, 137}, dtype);
                     const TensorId scale = b.parameter("scale", {137}, parameter_dtype(dtype));
                     b.mark_output(b.emit(LayerNorm{}, {x, scale}), "y");
                   },
               .fill =
                   [](const Tensor& tensor, View view) {
                     for (int64_t i = 0; tensor.name == "x" && i < view.num_elements(); ++i)
                       view.set(i, view.get(i) + 3000);
                   },
               .check_gradient = false,
               .dtypes = {DType::kF32},
               // An ulp of 3000 is 2.4e-4, and the mean is rounded to it.
               .tolerance_scale = 30});
}

TEST(LayerNorm, GradAddendCases) {
  for (const Shape& shape : kShapes)
    for (const bool with_sums : {false, true})
      run_op_case(
          {.name = fmt::format("{}{}", shape.to_string(), with_sums ? "" : " without sums"),
           .write =
               [&](Builder& b, DType dtype) {
                 const DType f32 = parameter_dtype(dtype);
                 const TensorId dy = b.input("dy", shape, dtype), x = b.input("x", shape, dtype);
                 const TensorId scale = b.parameter("scale", {shape[-1]}, f32);
                 const Shape rows = shape.without_last();
                 const TensorId mean = b.input("mean", rows, f32), rstd = b.input("rstd", rows, f32);
                 const auto sum = [&](const char* name) {
                   return with_sums ? b.declare(name, {{shape[-1]}, f32}, Role::kGradient) : TensorId{};
                 };
                 const TensorId dscale = sum("dscale"), dbias = sum("dbias"), addend = b.input("addend", shape, dtype);
                 b.mark_output(b.emit(LayerNormGrad{}, {dy, x, scale, mean, rstd, dscale, dbias, addend}), "dx");
               },
           .check_gradient = false});
}

TEST(LayerNorm, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(
      write_error([](Builder& b) {
        b.emit(LayerNorm{}, {b.input("x", {2, 8}, DType::kBF16), b.parameter("s", {8}), b.parameter("b", {1, 8})});
      }),
      HasSubstr("layer_norm.bias: got [1, 8] f32; needed [8]: one bias for each column of x"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(LayerNorm{}, {b.input("x", {2, 8}, DType::kF64), b.parameter("s", {8})});
              }),
              HasSubstr("layer_norm.scale: got [8] f32; needed f64"));
}

}  // namespace
}  // namespace colossus
