#include "convert/transpose.h"

#include <algorithm>
#include <array>
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

constexpr int64_t kTile = 64;

// By way of a tile of its own: each line of either matrix is touched once. Straight from one to the other, lines of
// matrices whose width is a power of two push each other out of the nearest cache.
template <class T>
void transpose_rows(const Transpose& t, int64_t first_row, int64_t end_row) {
  const T* from = reinterpret_cast<const T*>(t.from);
  T* to = reinterpret_cast<T*>(t.to);
  const bool from_pairs = t.head_dim > 0 && t.pairs_in_from, to_pairs = t.head_dim > 0 && !t.pairs_in_from;
  constexpr int64_t kPad = 64 / sizeof(T) + 1;
  std::array<T, static_cast<size_t>(kTile * (kTile + kPad))> tile;
  const auto row_of_tile = [&](int64_t r) { return tile.data() + r * (kTile + kPad); };
  for (int64_t row = first_row; row < end_row; row += kTile) {
    const int64_t num_rows = std::min(kTile, end_row - row);
    for (int64_t col = 0; col < t.num_cols; col += kTile) {
      const int64_t num_cols = std::min(kTile, t.num_cols - col);
      for (int64_t r = 0; r < num_rows; ++r) {
        const T* line = from + (from_pairs ? place_among_pairs(row + r, t.head_dim) : row + r) * t.from_cols;
        if (to_pairs)
          for (int64_t c = 0; c < num_cols; ++c)
            row_of_tile(r)[c] = line[place_among_halves(t.first_col + col + c, t.head_dim)];
        else
          std::copy_n(line + t.first_col + col, num_cols, row_of_tile(r));
      }
      for (int64_t c = 0; c < num_cols; ++c) {
        T* line = to + (col + c) * t.to_stride + row;
        for (int64_t r = 0; r < num_rows; ++r) line[r] = row_of_tile(r)[c];
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
