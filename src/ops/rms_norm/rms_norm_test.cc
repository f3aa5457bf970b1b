#include "ops/rms_norm/rms_norm.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

const std::vector<Shape> kShapes = {{1, 1, 1},   {1, 1, 37},    {7, 1},      {3, 5, 13},
                                    {2, 37, 64}, {1, 211, 128}, {5, 1, 131}, {17}};

TEST(RmsNorm, Cases) {
  for (const Shape& shape : kShapes)
    run_op_case({.name = shape.to_string(),
                 .write =
                     [&](Builder& b, DType dtype) {
                       const TensorId x = b.input("x", shape, dtype);
                       const TensorId scale = b.parameter("scale", {shape[-1]}, parameter_dtype(dtype));
                       b.mark_output(b.emit(RmsNorm{}, {x, scale}), "y");
                     },
                 // One column is always normed to about -1 or 1: the gradient of x all but vanishes.
                 .cancelling_terms = shape[-1] == 1 ? 10.0 : 0.0});
}

// Each head of a row by itself.
TEST(RmsNorm, HeadCases) {
  struct Heads {
    Shape x;
    int64_t head_dim;
  };
  for (const Heads& heads : std::vector<Heads>{{{2, 3, 12}, 4}, {{1, 37, 66}, 33}, {{5, 128}, 64}, {{2, 19, 15}, 3}})
    for (const bool with_addend : {false, true})
      run_op_case(
          {.name = fmt::format("{} of {}{}", heads.head_dim, heads.x.to_string(), with_addend ? ", addend" : ""),
           .write = [&](Builder& b, DType dtype) {
             const TensorId x = b.input("x", heads.x, dtype);
             const TensorId scale = b.parameter("scale", {heads.head_dim}, parameter_dtype(dtype));
             const TensorId addend = with_addend ? b.input("addend", heads.x, dtype) : TensorId{};
             b.mark_output(b.emit(RmsNorm{}, {x, scale, addend}), "y");
           }});
}

TEST(RmsNorm, AddendCases) {
  for (const Shape& shape : kShapes)
    run_op_case({.name = shape.to_string(),
                 .write =
                     [&](Builder& b, DType dtype) {
                       const TensorId x = b.input("x", shape, dtype), residual = b.input("residual", shape, dtype);
                       const TensorId scale = b.parameter("scale", {shape[-1]}, parameter_dtype(dtype));
                       b.mark_output(b.emit(RmsNorm{.eps = 1e-3}, {x, scale, residual}), "y");
                     },
                 .cancelling_terms = shape[-1] == 1 ? 10.0 : 0.0});
}

// What the adjoint of a residual connection becomes: the gradient passing by is added to dx.
TEST(RmsNorm, GradAddendCases) {
  for (const Shape& shape : kShapes)
    for (const bool with_dscale : {false, true})
      run_op_case({.name = fmt::format("{}{}", shape.to_string(), with_dscale ? "" : " without dscale"),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const DType f32 = parameter_dtype(dtype);
                         const TensorId dy = b.input("dy", shape, dtype), x = b.input("x", shape, dtype);
                         const TensorId scale = b.parameter("scale", {shape[-1]}, f32);
                         const Shape rows = shape.without_last();
                         const TensorId rstd = b.input("rstd", rows, f32), addend = b.input("addend", shape, dtype);
                         const TensorId dscale =
                             with_dscale ? b.declare("dscale", {{shape[-1]}, f32}, Role::kGradient) : TensorId{};
                         b.mark_output(b.emit(RmsNormGrad{}, {dy, x, scale, rstd, dscale, addend}), "dx");
                       },
                   .check_gradient = false});
}

TEST(RmsNorm, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(RmsNorm{}, {b.input("x", {2, 8}, DType::kBF16), b.parameter("s", {7})});
              }),
              HasSubstr("rms_norm.scale: got [7] f32; needed [8]: one scale for each column of x"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(RmsNorm{}, {b.input("x", {2, 8}, DType::kBF16), b.parameter("s", {8}, DType::kBF16)});
              }),
              HasSubstr("rms_norm.scale: got [8] bf16; needed f32"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(RmsNorm{.eps = -1}, {b.input("x", {2, 8}, DType::kF32), b.parameter("s", {8})});
              }),
              HasSubstr("rms_norm.eps: got -1"));
}

}  // namespace
}  // namespace colossus
