// Sums over rows with an order of their own: rows are cut into blocks by their number alone, each block is summed by
// one thread, and the blocks' sums are added in order. So the bits do not depend on how many threads there are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"

namespace colossus {

struct RowBlocks {
  static constexpr int64_t kMostBlocks = 64, kLeastRows = 16;

  explicit RowBlocks(int64_t num_rows)
      : rows(num_rows),
        rows_per_block(std::max(kLeastRows, (num_rows + kMostBlocks - 1) / kMostBlocks)),
        num_blocks((num_rows + rows_per_block - 1) / rows_per_block) {}

  // Scratch for `num_sums` sums of (width) floats of every block, for add_blocks.
  int64_t partial_bytes(int64_t num_sums, int64_t width) const {
    return num_sums * num_blocks * width * int64_t{sizeof(float)};
  }
  int64_t begin(int64_t block) const { return block * rows_per_block; }
  int64_t end(int64_t block) const { return std::min(rows, begin(block) + rows_per_block); }

  const int64_t rows, rows_per_block, num_blocks;
};

// work(block, begin, end) for each block and its rows, side by side.
template <class Work>
void for_each_block(ThreadPool& pool, const RowBlocks& blocks, Work&& work) {
  pool.parallel_for(blocks.num_blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) work(block, blocks.begin(block), blocks.end(block));
  });
}

// sum[c] += the column sums of partial (num_blocks, width), block after block.
inline void add_blocks(ThreadPool& pool, const float* partial, int64_t num_blocks, int64_t width, float* sum) {
  pool.parallel_for(width, 256, [=](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < num_blocks; ++block)
      for (int64_t c = begin; c < end; ++c) sum[c] += partial[block * width + c];
  });
}

}  // namespace colossus
