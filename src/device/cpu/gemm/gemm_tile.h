// The register tile: kRows x kPanelColumns of C in registers, one row of B and kRows broadcasts of A per step.
// Included once per instruction set; everything is in an unnamed namespace (simd.h says why). `Step` says what a word is:
//   Vector, kLanes, kRowsMax, kWordsOfA (words of A per word of B), and step(acc, a, b).
#pragma once

#include "device/cpu/gemm/gemm_kernels.h"

namespace colossus::gemm_internal {
namespace {

constexpr int kTileVectors = 2;  // columns of a register tile, in vectors

template <class Step, int kRows, bool kByColumns>
void compute_tile(const TileJob& job) {
  using V = typename Step::Vector;
  constexpr int kWidth = kTileVectors * Step::kVectorLanes;
  // Where the words of one row, and of one step, lie apart: constants, so that all loads share one pointer.
  constexpr int64_t kRowStride = kByColumns ? 1 : kBlockWords;
  constexpr int64_t kWordStride = kByColumns ? kTileColumn : 1;
  // Few rows: B streams from memory faster than the processor looks ahead by itself.
  constexpr bool kPrefetch = kRows <= 8;
  constexpr int64_t kPrefetchWords = 24 * kPanelColumns;

  for (int column = 0; column < kPanelColumns; column += kWidth) {
    V acc[kRows][kTileVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v)
        acc[r][v] = job.start ? Step::load(job.start + r * kPanelColumns + column + v * Step::kVectorLanes) : Step::zero();

    const uint32_t* a = job.a;
    const uint32_t* b = job.b + column;
#pragma GCC unroll 2
    for (int64_t word = job.num_words; word > 0; --word) {
      if constexpr (kPrefetch) {
        _mm_prefetch(reinterpret_cast<const char*>(b + kPrefetchWords), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(b + kPrefetchWords + 16), _MM_HINT_T0);
      }
      Step::template step<kRows, kRowStride, kWordStride>(acc, a, b);
      a += Step::kWordsOfA * kWordStride;
      b += kPanelColumns;
    }

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
  functions.by_rows[kRows] = compute_tile<Step, kRows, false>;
  functions.by_columns[kRows] = compute_tile<Step, kRows, true>;
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
