// The register tile: kRows x kPanelColumns of C in registers, one row of B and kRows broadcasts of A per step.
// Included once per instruction set; everything is in an unnamed namespace (simd.h says why). `Step` says what a word
// is:
//   Vector, kVectorLanes, kRowsMax, kWordsOfA (words of A per word of B), and step(acc, a, word of a, b).
#pragma once

#include "device/cpu/gemm/gemm_kernels.h"

namespace colossus::gemm_internal {
namespace {

constexpr int kTileVectors = 2;  // columns of a register tile, in vectors
constexpr int kFewRows = 6;

// The words of A for a tile. In place, every third row has a pointer and the others are one or two strides from it,
// which is what x86 addresses can say: fourteen pointers would not fit the registers.
template <int kRows>
struct InPlaceA {
  static constexpr bool kPackedWords = false;
  static constexpr int kGroups = (kRows + 2) / 3;
  const uint32_t* group[kGroups];
  int64_t stride;

  explicit InPlaceA(const TileJob& job) : stride(job.a_stride) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) group[g] = job.a + 3 * g * stride;
  }
  [[gnu::always_inline]] const uint32_t* at(int row, int64_t word) const {
    return group[row / 3] + row % 3 * stride + word;
  }
  [[gnu::always_inline]] void advance(int64_t words) {
#pragma GCC unroll 8
    for (int g = 0; g < kGroups; ++g) {
      group[g] += words;
      asm("" : "+r"(group[g]));  // keeps the compiler from replacing the groups by a pointer for each row
    }
  }
};

struct PackedA {
  static constexpr bool kPackedWords = true;
  const uint32_t* first;

  explicit PackedA(const TileJob& job) : first(job.a) {}
  [[gnu::always_inline]] const uint32_t* at(int row, int64_t word) const { return first + row + word * kTileColumn; }
  [[gnu::always_inline]] void advance(int64_t words) { first += words * kTileColumn; }
};

template <class Step, int kRows, bool kPacked>
struct OperandA {
  using Type = InPlaceA<kRows>;
};
template <class Step, int kRows>
struct OperandA<Step, kRows, true> {
  using Type = PackedA;
};

// B comes from L2, or with few rows from memory, faster than the processor looks ahead by itself.
template <int kRows, int kSteps>
[[gnu::always_inline]] inline void fetch_b(const uint32_t* b, int width) {
  constexpr int64_t kAhead = (kRows <= kFewRows ? 24 : 16) * kPanelColumns;
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step)
    for (int column = 0; column < width; column += 16)
      _mm_prefetch(reinterpret_cast<const char*>(b + step * kPanelColumns + column + kAhead), _MM_HINT_T0);
}

// `kSteps` words of B.
template <class Step, int kRows, int kSteps, class A>
[[gnu::always_inline]] inline void multiply_steps(typename Step::Vector (&acc)[kRows][kTileVectors], A& a,
                                                  const uint32_t*& b) {
  if constexpr (kRows <= kFewRows || A::kPackedWords) fetch_b<kRows, kSteps>(b, kTileVectors * Step::kVectorLanes);
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step)
    Step::template step<kRows>(acc, a, step * Step::kWordsOfA, b + step * kPanelColumns);
  a.advance(kSteps * Step::kWordsOfA);
  b += kSteps * kPanelColumns;
}

template <class Step, int kRows, bool kPacked>
void compute_tile(const TileJob& job) {
  using V = typename Step::Vector;
  constexpr int kWidth = kTileVectors * Step::kVectorLanes;
  constexpr int kUnroll = 4;
  for (int column = 0; column < kPanelColumns; column += kWidth) {
    V acc[kRows][kTileVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v)
        acc[r][v] =
            job.start ? Step::load(job.start + r * kPanelColumns + column + v * Step::kVectorLanes) : Step::zero();

    typename OperandA<Step, kRows, kPacked>::Type a(job);
    const uint32_t* b = job.b + column;
    int64_t words = job.num_words;
    // Rows of C are seldom in a cache: they are on their way while the tile is summed.
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
      for (int i = 0; i < kWidth; i += 16) __builtin_prefetch(job.out + r * job.ld_out + column + i, 1);
    if constexpr (kPacked) {
      const int64_t lines = words / (kFetchRuns * kUnroll);
      words -= lines * kFetchRuns * kUnroll;
      for (int run = 0; run < kFetchRuns; ++run) {
        const char* fetch = job.fetch + run * job.fetch_stride;
        for (int64_t i = 0; i < lines; ++i, fetch += 64) {
          _mm_prefetch(fetch, _MM_HINT_T1);
          multiply_steps<Step, kRows, kUnroll>(acc, a, b);
        }
      }
    }
    for (; words >= kUnroll; words -= kUnroll) multiply_steps<Step, kRows, kUnroll>(acc, a, b);
    for (; words > 0; --words) multiply_steps<Step, kRows, 1>(acc, a, b);

#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) {
        const int64_t at = r * job.ld_out + column + v * Step::kVectorLanes;
        Step::store(job.out + at, job.add ? Step::add(acc[r][v], Step::load(job.add + at)) : acc[r][v]);
      }
  }
}

template <class Step, int kRows = Step::kRowsMax>
constexpr void fill_tile_functions(TileFunctions& functions) {
  functions.in_place[kRows] = compute_tile<Step, kRows, false>;
  functions.packed[kRows] = compute_tile<Step, kRows, true>;
  if constexpr (kRows > 1) fill_tile_functions<Step, kRows - 1>(functions);
}

template <class Step>
constexpr TileFunctions tile_functions() {
  TileFunctions functions = {};
  functions.max_rows = Step::kRowsMax;
  fill_tile_functions<Step>(functions);
  return functions;
}

}  // namespace
}  // namespace colossus::gemm_internal
