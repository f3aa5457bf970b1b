#include "ops/embedding/embedding.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

struct EmbeddingShape {
  int64_t B, T, V, C;
};
constexpr EmbeddingShape kShapes[] = {{1, 1, 1, 1}, {2, 7, 5, 13}, {3, 11, 65, 37}, {2, 64, 7, 64}, {1, 130, 997, 131}};

enum class Positions { kNone, kColumns, kGiven };

OpCase embedding_case(const EmbeddingShape& s, Positions kind, double scale) {
  return {.name = fmt::format("({}, {}) of {} x {}, scale {}, positions {}", s.B, s.T, s.V, s.C, scale,
                              static_cast<int>(kind)),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId table = b.parameter("table", {s.V, s.C}, parameter_dtype(dtype));
                const TensorId tokens = b.input("tokens", {s.B, s.T}, DType::kI32);
                TensorId position_table, positions;
                if (kind != Positions::kNone)
                  position_table = b.parameter("position_table", {s.T + 2, s.C}, parameter_dtype(dtype));
                if (kind == Positions::kGiven) positions = b.input("positions", {s.B, s.T}, DType::kI32);
                const Embedding op{.scale = scale, .dtype = dtype};
                b.mark_output(b.emit(op, {table, tokens, position_table, positions}), "y");
              },
          .fill =
              [=](const Tensor& tensor, View view) {
                // Repeated tokens, so that the order of addition matters.
                for (int64_t i = 0; tensor.name == "tokens" && i < view.num_elements(); ++i)
                  view.as<int32_t>()[i] = static_cast<int32_t>(i * i * 31 % s.V);
                for (int64_t i = 0; tensor.name == "positions" && i < view.num_elements(); ++i)
                  view.as<int32_t>()[i] = static_cast<int32_t>(i * 3 % (s.T + 2));
              }};
}

TEST(Embedding, Cases) {
  for (const EmbeddingShape& shape : kShapes)
    for (const Positions kind : {Positions::kNone, Positions::kColumns, Positions::kGiven}) {
      run_op_case(embedding_case(shape, kind, 1));
      run_op_case(embedding_case(shape, kind, 78.38367176906169));
    }
}

// More tokens than a block sorts, and rows with more of them than one block adds.
TEST(Embedding, ManyTokensOfFewRows) { run_op_case(embedding_case({2, 1100, 13, 8}, Positions::kGiven, 2)); }

// Tables that are only read may be bf16, each by itself.
TEST(Embedding, TablesAsTheyAreStored) {
  for (const EmbeddingShape& s : kShapes)
    for (const auto& [table_type, position_type] :
         {std::pair{DType::kBF16, DType::kF32}, {DType::kF32, DType::kBF16}, {DType::kBF16, DType::kBF16}}) {
      OpCase op_case = embedding_case(s, Positions::kColumns, 3);
      op_case.name += fmt::format(", {} and {}", dtype_name(table_type), dtype_name(position_type));
      op_case.check_gradient = false;
      op_case.write = [=, table_type = table_type, position_type = position_type](Builder& b, DType dtype) {
        const TensorId table = b.parameter("table", {s.V, s.C}, table_type);
        const TensorId positions = b.parameter("position_table", {s.T + 2, s.C}, position_type);
        const TensorId tokens = b.input("tokens", {s.B, s.T}, DType::kI32);
        b.mark_output(b.emit(Embedding{.scale = 3, .dtype = dtype}, {table, tokens, positions}), "y");
      };
      run_op_case(op_case);
    }
}

// Data at fault reads and trains row 0, never memory outside the table.
TEST(Embedding, RowsOutOfRangeBecomeRowZero) {
  OpCase op_case = embedding_case({2, 7, 5, 13}, Positions::kGiven, 2);
  op_case.name = "out of range";
  op_case.fill = [](const Tensor& tensor, View view) {
    constexpr int32_t kRows[] = {-1, 5, 1 << 30, -(1 << 30), 4, 0, 9};
    for (int64_t i = 0; view.dtype == DType::kI32 && i < view.num_elements(); ++i) view.as<int32_t>()[i] = kRows[i % 7];
  };
  run_op_case(op_case);
}

TEST(Embedding, CostCountsOnlyTheRowsRead) {
  const OpShapes shapes({TensorType{{50304, 8}, DType::kF32}, TensorType{{2, 3}, DType::kI32}},
                        {TensorType{{2, 3, 8}, DType::kBF16}});
  const Cost got = cost(Embedding{.dtype = DType::kBF16}, shapes);
  EXPECT_EQ(got.bytes_read, 6 * 8 * 4 + 6 * 4);
  EXPECT_EQ(got.bytes_written, 6 * 8 * 2);
}

TEST(Embedding, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(Embedding{}, {b.parameter("table", {5, 8}), b.input("tokens", {2, 3}, DType::kF32)});
              }),
              HasSubstr("embedding.tokens: got [2, 3] f32; needed i32"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(Embedding{}, {b.parameter("table", {5, 8}), b.input("tokens", {2, 3}, DType::kI32),
                                     b.parameter("wpe", {2, 8})});
              }),
              HasSubstr("embedding.position_table: got [2, 8] f32; needed at least 3 rows, one a position"));
}

}  // namespace
}  // namespace colossus
