// Columns of a matrix in memory as rows of another.
#pragma once

#include <cstddef>
#include <cstdint>

namespace colossus {

struct Transpose {
  const std::byte* from = nullptr;  // (from_rows, from_cols)
  int64_t from_rows = 0, from_cols = 0;
  int64_t first_col = 0, num_cols = 0;  // those wanted
  std::byte* to = nullptr;              // (num_cols, from_rows), rows to_stride elements apart
  int64_t to_stride = 0;
  int64_t element_bytes = 4;  // 1, 2, 4 or 8
  // Above 0: runs of so many elements are interleaved halves on one side. On that of `from` (pairs_in_from) they run
  // along its rows; else `to` has them along its own rows, which are the columns of `from` from column 0 on.
  int64_t head_dim = 0;
  bool pairs_in_from = false;
};
void transpose(const Transpose& t);

// Where element i of runs of head_dim in halves is in runs of pairs.
int64_t place_among_pairs(int64_t i, int64_t head_dim);

}  // namespace colossus
