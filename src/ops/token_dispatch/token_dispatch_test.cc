#include "ops/token_dispatch/token_dispatch.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "ops/elementwise/elementwise.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

struct Sizes {
  int64_t num_tokens, width, num_experts, top_k;
};
// The third spans several blocks of the sort; in the fifth most experts are empty; the sixth has wide rows, and more
// slots than are summed at once.
constexpr Sizes kSizes[] = {{1, 1, 1, 1},   {13, 37, 4, 2}, {700, 16, 8, 2},
                            {31, 65, 5, 3}, {17, 7, 64, 1}, {3, 4616, 40, 6}};

std::string name_of(const Sizes& size) {
  return fmt::format("tokens {} width {} experts {} top_k {}", size.num_tokens, size.width, size.num_experts,
                     size.top_k);
}

// Distinct experts for the slots of a token, unevenly loaded.
auto fill_experts(const Sizes& size) {
  return [=](const Tensor& tensor, View view) {
    if (tensor.name != "experts") return;
    for (int64_t n = 0; n < size.num_tokens; ++n) {
      const int64_t first = n % 3 == 0 ? 0 : n * n * 7;
      for (int64_t j = 0; j < size.top_k; ++j)
        view.set(n * size.top_k + j, static_cast<double>((first + j) % size.num_experts));
    }
  };
}

struct Dispatched {
  TensorId rows, offsets, slot_row;
};

Dispatched dispatch(Builder& b, TensorId x, const Sizes& size) {
  const TensorId experts = b.input("experts", {1, size.num_tokens, size.top_k}, DType::kI32);
  b.emit(TokenDispatch{.num_experts = size.num_experts}, {x, experts});
  const std::vector<TensorId> outputs = b.last_outputs();
  return {outputs[TokenDispatch::kRows], outputs[TokenDispatch::kOffsets], outputs[TokenDispatch::kSlotRow]};
}

TEST(TokenDispatch, Cases) {
  for (const Sizes& size : kSizes)
    run_op_case({
        .name = name_of(size),
        .write =
            [=](Builder& b, DType dtype) {
              const Dispatched sorted = dispatch(b, b.input("x", {1, size.num_tokens, size.width}, dtype), size);
              b.mark_output(sorted.rows, "rows");
              b.mark_output(sorted.offsets, "offsets");
              b.mark_output(sorted.slot_row, "slot_row");
            },
        .fill = fill_experts(size),
    });
}

// So many slots that a warp of a GPU counts several times 32 of them.
TEST(TokenDispatch, ManySlots) {
  const Sizes size{8200, 1, 5, 2};
  run_op_case({
      .name = name_of(size),
      .write =
          [=](Builder& b, DType dtype) {
            const Dispatched sorted = dispatch(b, b.input("x", {1, size.num_tokens, size.width}, dtype), size);
            b.mark_output(sorted.rows, "rows");
            b.mark_output(sorted.offsets, "offsets");
            b.mark_output(sorted.slot_row, "slot_row");
          },
      .fill = fill_experts(size),
      .check_gradient = false,
      .dtypes = {DType::kF32},
  });
}

TEST(TokenCombine, Cases) {
  for (const Sizes& size : kSizes)
    for (const bool with_addend : {false, true})
      run_op_case({
          .name = fmt::format("{} addend {}", name_of(size), with_addend),
          .write =
              [=](Builder& b, DType dtype) {
                const Shape shape{1, size.num_tokens, size.width};
                const Dispatched sorted = dispatch(b, b.input("x", shape, dtype), size);
                const TensorId rows = b.input("expert_rows", {size.num_tokens * size.top_k, size.width}, dtype);
                const TensorId gates = b.input("gates", {1, size.num_tokens, size.top_k}, parameter_dtype(dtype));
                const TensorId addend = with_addend ? scaled_addend(b, shape, dtype) : TensorId{};
                b.mark_output(b.emit(TokenCombine{}, {rows, gates, sorted.slot_row, addend}), "y");
              },
          .fill = fill_experts(size),
          .without_gradient = {"x"},
      });
}

// There and back: rows reach their tokens again, and two uses of x add up.
TEST(TokenCombine, OfDispatchedRows) {
  const Sizes size{37, 19, 5, 2};
  run_op_case({
      .name = name_of(size),
      .write =
          [=](Builder& b, DType dtype) {
            const TensorId x = b.input("x", {1, size.num_tokens, size.width}, dtype);
            const Dispatched sorted = dispatch(b, x, size);
            const TensorId gates = b.input("gates", {1, size.num_tokens, size.top_k}, parameter_dtype(dtype));
            b.mark_output(b.emit(TokenCombine{}, {sorted.rows, gates, sorted.slot_row, x}), "y");
          },
      .fill = fill_experts(size),
  });
}

TEST(TokenDispatchGrad, Addend) {
  const Sizes size{13, 37, 4, 2};
  run_op_case({
      .name = name_of(size),
      .write =
          [=](Builder& b, DType dtype) {
            const Shape shape{1, size.num_tokens, size.width};
            const Dispatched sorted = dispatch(b, b.input("x", shape, dtype), size);
            const TensorId drows = b.input("drows", {size.num_tokens * size.top_k, size.width}, dtype);
            b.mark_output(b.emit(TokenDispatchGrad{}, {drows, sorted.slot_row, b.input("addend", shape, dtype)}), "dx");
          },
      .fill = fill_experts(size),
      .check_gradient = false,
  });
}

TEST(TokenDispatch, ErrorsNameTheOperand) {
  const auto error = [](const Shape& experts, DType dtype, int64_t num_experts) {
    return write_error([=](Builder& b) {
      b.emit(TokenDispatch{.num_experts = num_experts},
             {b.input("x", {2, 3, 8}, DType::kF32), b.input("experts", experts, dtype)});
    });
  };
  EXPECT_THAT(error({2, 4, 2}, DType::kI32, 4),
              HasSubstr("token_dispatch.experts: got [2, 4, 2] i32; needed [2, 3, 2]"));
  EXPECT_THAT(error({2, 3, 2}, DType::kF32, 4), HasSubstr("token_dispatch.experts: got [2, 3, 2] f32; needed i32"));
  EXPECT_THAT(error({2, 3, 2}, DType::kI32, 0), HasSubstr("token_dispatch.num_experts: got 0"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(TokenCombine{}, {b.input("rows", {5, 8}, DType::kF32), b.input("gates", {1, 3, 2}, DType::kF32),
                                        b.input("slot_row", {1, 3, 2}, DType::kI32)});
              }),
              HasSubstr("token_combine.rows: got [5, 8] f32; needed size 6 in dimension 0"));
}

}  // namespace
}  // namespace colossus
