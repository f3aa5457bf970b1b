#include "ops/dropout/dropout.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

OpCase dropout_case(const Shape& shape, const Dropout& op, int64_t step, int64_t first_sample) {
  return {.name = fmt::format("{} rate {} step {} first {}", shape.to_string(), op.rate, step, first_sample),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId x = b.input("x", shape, dtype), rng = b.input("rng", {3}, DType::kI64);
                b.mark_output(b.emit(op, {x, rng}), "y");
              },
          .fill =
              [=](const Tensor& tensor, View view) {
                if (tensor.name != "rng") return;
                view.as<int64_t>()[0] = 0x123456789ABCDEF;
                view.as<int64_t>()[1] = step;
                view.as<int64_t>()[2] = first_sample;
              }};
}

// The fast kernel draws 16 blocks at a time from any element on; the reference asks random_bits for each.
TEST(Dropout, Cases) {
  const std::vector<Shape> shapes = {{1, 1, 1}, {2, 3, 7}, {3, 5, 37}, {2, 13, 64}, {4, 64, 129}};
  for (const Shape& shape : shapes)
    for (const int64_t first_sample : {0, 1, 123'456'789}) {
      run_op_case(dropout_case(shape, {.rate = 0.3}, 17, first_sample));
      run_op_case(dropout_case(shape, {.rate = 0.9, .stream = 65535}, 5'000'000'000, first_sample));
    }
  run_op_case(dropout_case({2, 3, 37}, {.rate = 0}, 0, 0));
}

// Some of each sequence's tokens have the mask they have in the whole.
TEST(Dropout, PositionsSayWhichTokens) {
  for (const int64_t width : {7, 64, 129})
    run_op_case(
        {.name = fmt::format("positions, width {}", width),
         .write =
             [=](Builder& b, DType dtype) {
               const TensorId x = b.input("x", {3, 4, width}, dtype);
               const TensorId rng = b.input("rng", {3}, DType::kI64);
               const TensorId positions = b.input("positions", {3, 4}, DType::kI32);
               b.mark_output(b.emit(Dropout{.rate = 0.4, .stream = 2, .sequence_tokens = 9}, {x, rng, positions}), "y");
             },
         .fill =
             [](const Tensor& tensor, View view) {
               for (int64_t i = 0; tensor.name == "positions" && i < view.num_elements(); ++i)
                 view.set(i, static_cast<double>(i * 5 % 9));
               if (tensor.name == "rng") view.set(2, 11);
             }});
}

int kept_in_common(const DropoutMask& a, const DropoutMask& b, int count) {
  int common = 0;
  for (uint64_t i = 0; i < static_cast<uint64_t>(count); ++i)
    common += random_bits(a.key, i) >= a.threshold && random_bits(b.key, i) >= b.threshold;
  return common;
}

TEST(Dropout, KeepsTheRightShareAndMasksDifferByStreamStepAndSeed) {
  constexpr int kCount = 20'000;
  const Dropout op{.rate = 0.25, .stream = 3};
  const DropoutMask mask(op, 1, 10);
  EXPECT_NEAR(kept_in_common(mask, mask, kCount), 0.75 * kCount, 250);  // four standard deviations
  const DropoutMask others[] = {{{.rate = 0.25, .stream = 4}, 1, 10}, {op, 1, 11}, {op, 2, 10}};
  for (const DropoutMask& other : others) EXPECT_NEAR(kept_in_common(mask, other, kCount), 0.5625 * kCount, 285);
}

TEST(Dropout, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  const auto error_of = [](const Dropout& op, DType rng) {
    return write_error([=](Builder& b) {
      b.emit(op, {b.input("x", {2, 3, 4}, DType::kF32), b.input("rng", {3}, rng)});
    });
  };
  EXPECT_THAT(error_of({.rate = 1}, DType::kI64), HasSubstr("dropout.rate: got 1; needed a number in [0, 1)"));
  EXPECT_THAT(error_of({.stream = 65536}, DType::kI64), HasSubstr("dropout.stream: got 65536"));
  EXPECT_THAT(error_of({}, DType::kI32), HasSubstr("dropout.rng: got [3] i32; needed i64"));
  EXPECT_THAT(error_of({.sequence_tokens = 4}, DType::kI64), HasSubstr("dropout.sequence_tokens: got 4"));
}

}  // namespace
}  // namespace colossus
