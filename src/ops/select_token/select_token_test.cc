#include "ops/select_token/select_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

TEST(SelectToken, Cases) {
  const std::vector<Shape> shapes = {{1, 1, 1}, {3, 7, 13}, {5, 2, 64}};
  for (const Shape& shape : shapes)
    run_op_case({.name = shape.to_string(),
                 .write =
                     [&](Builder& b, DType dtype) {
                       const TensorId x = b.input("x", shape, dtype), index = b.input("index", {shape[0]}, DType::kI32);
                       b.mark_output(b.emit(SelectToken{}, {x, index}), "y");
                     },
                 .fill =
                     [&](const Tensor& tensor, View view) {
                       // The last token, the first, and one out of range, which reads the first.
                       const int32_t rows[] = {static_cast<int32_t>(shape[1] - 1), 0, 1 << 30, -1};
                       for (int64_t i = 0; tensor.name == "index" && i < view.num_elements(); ++i)
                         view.as<int32_t>()[i] = rows[i % 4];
                     },
                 .check_gradient = false});
}

TEST(SelectToken, ErrorsNameOpAndOperand) {
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(SelectToken{}, {b.input("x", {2, 3, 4}, DType::kF32), b.input("index", {3}, DType::kI32)});
              }),
              testing::HasSubstr("select_token.index: got [3] i32; needed [2]: a token of each sequence"));
}

}  // namespace
}  // namespace colossus
