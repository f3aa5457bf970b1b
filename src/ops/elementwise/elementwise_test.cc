#include "ops/elementwise/elementwise.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

const std::vector<Shape> kShapes = {{1}, {7}, {3, 5, 37}, {4, 64}, {130, 131}};

TEST(Elementwise, AddCases) {
  for (const Shape& shape : kShapes)
    run_op_case({.name = "add " + shape.to_string(), .write = [&](Builder& b, DType dtype) {
                   const TensorId x = b.input("x", shape, dtype), z = b.input("z", shape, dtype);
                   b.mark_output(b.emit(Add{}, {x, z}), "y");
                 }});
}

TEST(Elementwise, AddingATensorToItselfDoublesItsGradient) {
  run_op_case({.name = "x + x", .write = [](Builder& b, DType dtype) {
                 const TensorId x = b.input("x", {5, 13}, dtype);
                 b.mark_output(b.emit(Add{}, {x, x}), "y");
               }});
}

TEST(Elementwise, ScaleCases) {
  for (const Shape& shape : kShapes)
    run_op_case({.name = "scale " + shape.to_string(), .write = [&](Builder& b, DType dtype) {
                   b.mark_output(b.emit(Scale{.factor = -0.37}, {b.input("x", shape, dtype)}), "y");
                 }});
}

TEST(Elementwise, SoftCapCases) {
  for (const Shape& shape : kShapes)
    for (const double cap : {1.0, 30.0})
      run_op_case(
          {.name = fmt::format("soft_cap {} {}", cap, shape.to_string()),
           .write = [&](Builder& b,
                        DType dtype) { b.mark_output(b.emit(SoftCap{.cap = cap}, {b.input("x", shape, dtype)}), "y"); },
           .fill_scale = 3});
}

TEST(Elementwise, CastCases) {
  for (const Shape& shape : kShapes)
    for (const DType to : {DType::kF32, DType::kBF16})
      run_op_case({.name = fmt::format("cast to {} {}", dtype_name(to), shape.to_string()),
                   .write = [&](Builder& b, DType dtype) {
                     const DType target = dtype == DType::kF64 ? dtype : to;
                     b.mark_output(b.emit(Cast{.dtype = target}, {b.input("x", shape, dtype)}), "y");
                   }});
}

TEST(Elementwise, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(Add{}, {b.input("x", {2, 3}, DType::kF32), b.input("z", {3, 2}, DType::kF32)});
              }),
              HasSubstr("add.b: got [3, 2] f32; needed [2, 3] f32, like a"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Scale{}, {b.input("x", {2}, DType::kI32)}); }),
              HasSubstr("scale.x: got [2] i32; needed a float type"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(SoftCap{.cap = 0}, {b.input("x", {2}, DType::kF32)}); }),
              HasSubstr("soft_cap.cap: got 0; needed a number above 0"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Cast{.dtype = DType::kI32}, {b.input("x", {2}, DType::kF32)}); }),
              HasSubstr("cast.dtype: got i32"));
}

}  // namespace
}  // namespace colossus
