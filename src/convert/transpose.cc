#include "convert/transpose.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/platform.h"

namespace colossus {
namespace {

// Where element i of runs in halves is in runs of pairs.
int64_t place_among_pairs(int64_t i, int64_t head_dim) {
  const int64_t in_head = i % head_dim, half = head_dim / 2;
  return i - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}
int64_t place_among_halves(int64_t i, int64_t head_dim) {
  const int64_t in_head = i % head_dim, half = head_dim / 2;
  return i - in_head + in_head / 2 + (in_head % 2 == 0 ? 0 : half);
}

// Tiles whose lines on both sides stay in the nearest cache.
constexpr int64_t kTile = 32;

template <class T>
void transpose_rows(const Transpose& t, int64_t first_row, int64_t end_row) {
  const T* from = reinterpret_cast<const T*>(t.from);
  T* to = reinterpret_cast<T*>(t.to);
  const bool from_pairs = t.head_dim > 0 && t.pairs_in_from, to_pairs = t.head_dim > 0 && !t.pairs_in_from;
  for (int64_t row = first_row; row < end_row; row += kTile) {
    const int64_t row_end = std::min(row + kTile, end_row);
    for (int64_t col = 0; col < t.num_cols; col += kTile) {
      const int64_t col_end = std::min(col + kTile, t.num_cols);
      for (int64_t r = row; r < row_end; ++r) {
        const T* line = from + (from_pairs ? place_among_pairs(r, t.head_dim) : r) * t.from_cols;
        if (to_pairs)
          for (int64_t c = col; c < col_end; ++c)
            to[c * t.to_stride + r] = line[place_among_halves(t.first_col + c, t.head_dim)];
        else
          for (int64_t c = col; c < col_end; ++c) to[c * t.to_stride + r] = line[t.first_col + c];
      }
    }
  }
}

template <class T>
void transpose_in_parallel(const Transpose& t) {
  constexpr int64_t kWorthAThread = 1 << 18;  // elements
  const int64_t num_threads =
      std::clamp<int64_t>(t.from_rows * t.num_cols / kWorthAThread, 1, std::min(num_usable_cores(), 8));
  const auto part = [&](int64_t i) {
    const int64_t tiles = (t.from_rows + kTile - 1) / kTile;
    transpose_rows<T>(t, tiles * i / num_threads * kTile, std::min(t.from_rows, tiles * (i + 1) / num_threads * kTile));
  };
  std::vector<std::thread> threads;
  for (int64_t i = 1; i < num_threads; ++i) threads.emplace_back(part, i);
  part(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void transpose(const Transpose& t) {
  switch (t.element_bytes) {
    case 1: return transpose_in_parallel<uint8_t>(t);
    case 2: return transpose_in_parallel<uint16_t>(t);
    case 4: return transpose_in_parallel<uint32_t>(t);
    case 8: return transpose_in_parallel<uint64_t>(t);
    default: CHECK(false, "elements of 1, 2, 4 or 8 bytes");
  }
}

}  // namespace colossus
