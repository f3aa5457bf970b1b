#include "ops/rotary/rotary.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

struct RotaryShape {
  int64_t B, T, num_heads, head_dim;
};
constexpr RotaryShape kShapes[] = {{1, 1, 1, 2}, {2, 7, 3, 14}, {3, 13, 1, 64}, {1, 37, 2, 34}, {2, 130, 5, 32}};

OpCase rotary_case(const RotaryShape& s, double theta, bool inverse) {
  return {.name = fmt::format("({}, {}, {} x {}) theta {}", s.B, s.T, s.num_heads, s.head_dim, theta),
          .write = [=](Builder& b, DType dtype) {
            const TensorId x = b.input("x", {s.B, s.T, s.num_heads * s.head_dim}, dtype);
            b.mark_output(b.emit(Rotary{.head_dim = s.head_dim, .theta = theta, .inverse = inverse}, {x}), "y");
          }};
}

TEST(Rotary, Cases) {
  for (const RotaryShape& shape : kShapes) {
    run_op_case(rotary_case(shape, 10000, false));
    run_op_case(rotary_case(shape, 500000, true));
    run_op_case(rotary_case(shape, 0.5, false));  // frequencies above 1
  }
}

TEST(Rotary, StretchedCases) {
  for (const RotaryShape& s : kShapes)
    for (const bool inverse : {false, true})
      run_op_case({.name = fmt::format("({}, {}, {} x {}) stretched", s.B, s.T, s.num_heads, s.head_dim),
                   .write = [&](Builder& b, DType dtype) {
                     const TensorId x = b.input("x", {s.B, s.T, s.num_heads * s.head_dim}, dtype);
                     const RotaryStretch stretched = {.factor = 8, .original_tokens = 64};
                     b.mark_output(
                         b.emit(Rotary{.head_dim = s.head_dim, .inverse = inverse, .stretched = stretched}, {x}), "y");
                   }});
}

// Between the two numbers of turns frequencies go over from one rule to the other without a step.
TEST(Rotary, StretchIsContinuous) {
  const RotaryStretch s = {.factor = 8, .low_turns = 1, .high_turns = 4, .original_tokens = 8192};
  const auto frequency_of = [](double turns) { return turns * 2 * std::numbers::pi / 8192; };
  EXPECT_DOUBLE_EQ(s.stretch(frequency_of(0.5)), frequency_of(0.5) / 8);
  EXPECT_DOUBLE_EQ(s.stretch(frequency_of(5)), frequency_of(5));
  EXPECT_NEAR(s.stretch(frequency_of(1 + 1e-9)) / (frequency_of(1) / 8), 1, 1e-6);
  EXPECT_NEAR(s.stretch(frequency_of(4 - 1e-9)) / frequency_of(4), 1, 1e-6);
  EXPECT_NEAR(s.stretch(frequency_of(2.5)) / frequency_of(2.5), 0.5 + 0.5 / 8, 1e-12);
}

// Any order, repeats, negatives, and what is beyond the range of the vector sine.
TEST(Rotary, PositionCases) {
  for (const RotaryShape& s : kShapes)
    for (const bool far : {false, true})
      run_op_case({.name = fmt::format("({}, {}, {} x {}) {}", s.B, s.T, s.num_heads, s.head_dim, far ? "far" : "near"),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId x = b.input("x", {s.B, s.T, s.num_heads * s.head_dim}, dtype);
                         const TensorId positions = b.input("positions", {s.B, s.T}, DType::kI32);
                         b.mark_output(b.emit(Rotary{.head_dim = s.head_dim}, {x, positions}), "y");
                       },
                   .fill =
                       [&](const Tensor& tensor, View view) {
                         if (tensor.name != "positions") return;
                         for (int64_t i = 0; i < view.num_elements(); ++i)
                           view.as<int32_t>()[i] =
                               static_cast<int32_t>((i * 7919 + 5) % 2221 - 100) * (far ? 900'001 : 473);
                       }});
}

TEST(Rotary, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  const auto error_of = [](int64_t head_dim, const Shape& positions) {
    return write_error([=](Builder& b) {
      b.emit(Rotary{.head_dim = head_dim},
             {b.input("x", {2, 3, 24}, DType::kF32), b.input("p", positions, DType::kI32)});
    });
  };
  EXPECT_THAT(error_of(7, {2, 3}), HasSubstr("rotary.head_dim: got 7; needed an even number above 0"));
  EXPECT_THAT(error_of(10, {2, 3}),
              HasSubstr("rotary.x: got [2, 3, 24] f32; needed columns in multiples of head_dim = 10"));
  EXPECT_THAT(error_of(8, {3, 2}), HasSubstr("rotary.positions: got [3, 2] i32; needed [2, 3]"));
}

}  // namespace
}  // namespace colossus
