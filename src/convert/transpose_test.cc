#include "convert/transpose.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

namespace colossus {
namespace {

template <class T>
void expect_transposed(int64_t rows, int64_t cols, int64_t first_col, int64_t num_cols, int64_t stride) {
  std::vector<T> from(static_cast<size_t>(rows * cols));
  std::iota(from.begin(), from.end(), T{1});
  std::vector<T> to(static_cast<size_t>(num_cols * stride), T{0});
  transpose({.from = reinterpret_cast<const std::byte*>(from.data()),
             .from_rows = rows,
             .from_cols = cols,
             .first_col = first_col,
             .num_cols = num_cols,
             .to = reinterpret_cast<std::byte*>(to.data()),
             .to_stride = stride,
             .element_bytes = sizeof(T)});
  std::vector<T> expected(to.size(), T{0});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < num_cols; ++c)
      expected[static_cast<size_t>(c * stride + r)] = from[static_cast<size_t>(r * cols + first_col + c)];
  EXPECT_EQ(to, expected) << rows << " x " << cols << " from " << first_col << ", " << num_cols;
}

// Around the sizes of tiles, within wider rows on both sides, and large enough for several threads.
TEST(Transpose, TurnsWholeTilesAndTheirRests) {
  for (const int64_t rows : {1, 63, 64, 65, 130})
    for (const int64_t cols : {1, 64, 129}) {
      expect_transposed<uint8_t>(rows, cols, 0, cols, rows);
      expect_transposed<uint16_t>(rows, cols + 5, 3, cols, rows + 7);
      expect_transposed<uint32_t>(rows, cols, 0, cols, rows);
      expect_transposed<uint64_t>(rows, cols + 1, 1, cols, rows + 1);
    }
  expect_transposed<uint16_t>(1031, 1029, 2, 1024, 1040);
  expect_transposed<uint32_t>(1024, 1024, 0, 1024, 1024);
}

// A head of four: halves a0 a1 b0 b1 beside pairs a0 b0 a1 b1.
TEST(Transpose, TakesPairsApartAndPutsThemTogether) {
  const std::vector<uint16_t> pairs = {10, 20, 11, 21, 30, 40, 31, 41}, halves = {10, 11, 20, 21, 30, 31, 40, 41};
  std::vector<uint16_t> to(8);
  Transpose column{.from = reinterpret_cast<const std::byte*>(pairs.data()),
                   .from_rows = 8,
                   .from_cols = 1,
                   .num_cols = 1,
                   .to = reinterpret_cast<std::byte*>(to.data()),
                   .to_stride = 8,
                   .element_bytes = 2,
                   .head_dim = 4,
                   .pairs_in_from = true};
  transpose(column);
  EXPECT_EQ(to, halves);
  Transpose row = column;
  row.from = reinterpret_cast<const std::byte*>(halves.data());
  row.from_rows = 1;
  row.from_cols = row.num_cols = 8;
  row.to_stride = 1;
  row.pairs_in_from = false;
  transpose(row);
  EXPECT_EQ(to, pairs);
}

}  // namespace
}  // namespace colossus
