#include "convert/transpose.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/platform.h"

namespace colossus {
namespace {

int64_t place_among_halves(int64_t i, int64_t head_dim) {
  const int64_t in_head = i % head_dim, half = head_dim / 2;
  return i - in_head + in_head / 2 + (in_head % 2 == 0 ? 0 : half);
}

constexpr int64_t kTile = 64;
constexpr int64_t kEight = 8;

// A tile on its way: turned over already. Each line of either matrix is touched once. Straight from one to the other,
// lines of matrices whose width is a power of two push each other out of the nearest cache.
template <class T>
class Tile {
 public:
  T* row(int64_t c) { return elements_.data() + c * kPitch; }
  static constexpr int64_t kPitch = kTile + static_cast<int64_t>(16 / sizeof(T));

 private:
  std::array<T, static_cast<size_t>(kTile* kPitch)> elements_;
};

// Eight rows of eight, turned in registers.
void turn_eight(const std::array<const uint16_t*, kEight>& rows, int64_t col, uint16_t* to, int64_t pitch) {
  using Row = uint16_t __attribute__((vector_size(16)));
  std::array<Row, kEight> a, b;
  for (size_t i = 0; i < kEight; ++i) std::memcpy(&a[i], rows[i] + col, sizeof(Row));
  for (size_t i = 0; i < kEight; i += 2) {
    b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 2, 10, 3, 11);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 4, 12, 5, 13, 6, 14, 7, 15);
  }
  for (size_t i = 0; i < kEight; i += 4)
    for (size_t j = 0; j < 2; ++j) {
      a[i + 2 * j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 2, 3, 10, 11);
      a[i + 2 * j + 1] = __builtin_shufflevector(b[i + j], b[i + j + 2], 4, 5, 12, 13, 6, 7, 14, 15);
    }
  for (size_t i = 0; i < 4; ++i) {
    b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (size_t i = 0; i < kEight; ++i) std::memcpy(to + static_cast<int64_t>(i) * pitch, &b[i], sizeof(Row));
}

// tile.row(c)[r] = element c of the r-th line. `place`: where the line has its c-th element.
template <class T, class Place>
void fill_tile(Tile<T>& tile, const std::array<const T*, kTile>& lines, int64_t num_rows, int64_t num_cols,
               const Place& place) {
  for (int64_t r = 0; r < num_rows; ++r)
    for (int64_t c = 0; c < num_cols; ++c) tile.row(c)[r] = lines[static_cast<size_t>(r)][place(c)];
}

void fill_whole_tile(Tile<uint16_t>& tile, const std::array<const uint16_t*, kTile>& lines, int64_t first_col) {
  for (int64_t r = 0; r < kTile; r += kEight) {
    std::array<const uint16_t*, kEight> eight;
    std::copy_n(lines.begin() + r, kEight, eight.begin());
    for (int64_t c = 0; c < kTile; c += kEight)
      turn_eight(eight, first_col + c, tile.row(c) + r, Tile<uint16_t>::kPitch);
  }
}

template <class T>
void transpose_rows(const Transpose& t, int64_t first_row, int64_t end_row) {
  const T* from = reinterpret_cast<const T*>(t.from);
  T* to = reinterpret_cast<T*>(t.to);
  const bool from_pairs = t.head_dim > 0 && t.pairs_in_from, to_pairs = t.head_dim > 0 && !t.pairs_in_from;
  Tile<T> tile;
  std::array<const T*, kTile> lines{};
  for (int64_t row = first_row; row < end_row; row += kTile) {
    const int64_t num_rows = std::min(kTile, end_row - row);
    for (int64_t r = 0; r < num_rows; ++r)
      lines[static_cast<size_t>(r)] =
          from + (from_pairs ? place_among_pairs(row + r, t.head_dim) : row + r) * t.from_cols;
    for (int64_t col = 0; col < t.num_cols; col += kTile) {
      const int64_t num_cols = std::min(kTile, t.num_cols - col), first = t.first_col + col;
      const bool whole = num_rows == kTile && num_cols == kTile;
      if (to_pairs)
        fill_tile(tile, lines, num_rows, num_cols,
                  [&](int64_t c) { return place_among_halves(first + c, t.head_dim); });
      else if constexpr (std::is_same_v<T, uint16_t>)
        whole ? fill_whole_tile(tile, lines, first)
              : fill_tile(tile, lines, num_rows, num_cols, [&](int64_t c) { return first + c; });
      else
        fill_tile(tile, lines, num_rows, num_cols, [&](int64_t c) { return first + c; });
      for (int64_t c = 0; c < num_cols; ++c) std::copy_n(tile.row(c), num_rows, to + (col + c) * t.to_stride + row);
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

int64_t place_among_pairs(int64_t i, int64_t head_dim) {
  const int64_t in_head = i % head_dim, half = head_dim / 2;
  return i - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

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
