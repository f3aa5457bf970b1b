// What a matrix multiplication is made of, per instruction set: the register tile, the packing of both operands, and
// the epilogue. Plain structs over raw pointers and no standard headers (simd.h says why). gemm.cc drives them.
//
// Layouts, in 32-bit *words* (a float, or two bf16 of consecutive k, the lower half being the even k):
//   panel of B   [k word][kPanelColumns]  columns past N and the odd k past K are zeros
//   tile of A    [k word][kTileColumn]    rows past the tile's are zeros; a row-major A can also be read in place
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

// What a matrix multiplication can apply to its result.
enum class GemmActivation : uint8_t { kNone, kGeluTanh, kRelu2, kSilu };

}  // namespace colossus

namespace colossus::gemm_internal {

inline constexpr int kPanelColumns = 32;
inline constexpr int kMaxTileRows = 14;
inline constexpr int kBlockWords = 384;  // longest run of k words between two visits of a tile of C
inline constexpr int kTileColumn = 16;
inline constexpr int64_t kTileBytes = int64_t{kBlockWords} * kTileColumn * 4;

// One register tile: out = start + A B + add, summed along k in order.
struct TileJob {
  const uint32_t* a;
  int64_t a_stride;  // words between rows of A where it is read in place
  const uint32_t* b;
  int64_t num_words;   // of the panel
  const float* start;  // null for zeros; dense [rows][kPanelColumns]
  const float* add;    // null for zeros; ld_out as out
  float* out;          // kPanelColumns wide
  int64_t ld_out;
  // With a packed A: memory to bring into L2 meanwhile, kFetchRuns runs of num_words words, `fetch_stride` bytes apart.
  const char* fetch;
  int64_t fetch_stride;
};
inline constexpr int kFetchRuns = 4;
using TileFunction = void (*)(const TileJob& job);

// One per number of rows, 1..max_rows, for an A in place and a packed one.
struct TileFunctions {
  int max_rows;
  TileFunction in_place[kMaxTileRows + 1];
  TileFunction packed[kMaxTileRows + 1];
};

// `k` rows of B for a panel, or of the transpose of A for a tile: lines of `columns` words along k.
struct PackJob {
  const void* source;
  int64_t ld;  // elements between rows as stored
  int64_t k;
  int columns;         // at most the width of the panel or tile
  bool source_bf16;    // or float; the destination holds floats or pairs of bf16
  bool k_contiguous;   // stored rows run along k: a row-major A, a transposed B
  bool round_to_bf16;  // float destination: round on the way
  bool even_k;         // float destination: an odd k is followed by a line of zeros
  uint32_t* to;
};
using PackFunction = void (*)(const PackJob& job);

// The end of a tile: C = activation(alpha * tile + bias) + addend, or C += the same.
struct FinishJob {
  const float* tile;  // dense [rows][kPanelColumns]
  int rows;
  int columns;  // at most kPanelColumns
  float alpha;
  GemmActivation activation;
  bool accumulate;  // only for float C
  bool c_bf16;
  const float* bias;   // null or [columns]
  const void* addend;  // null or rows of C's type
  int64_t ld_addend;
  void* c;
  int64_t ldc;
};

struct GemmKernels {
  const char* name;
  // Panels of bf16 pairs meet tiles of A in bf16 pairs (the processor has, or the kernel plays, the dot product), or
  // tiles of A in floats.
  bool pairs_in_a;
  TileFunctions f32;   // panels of floats
  TileFunctions bf16;  // panels of pairs
  PackFunction pack_a_f32;
  PackFunction pack_a_pairs;
  PackFunction pack_b_f32;
  PackFunction pack_b_pairs;
  void (*finish)(const FinishJob&);
};

template <class Isa>
const GemmKernels& gemm_kernels();
template <>
const GemmKernels& gemm_kernels<Avx2>();
template <>
const GemmKernels& gemm_kernels<Avx512>();
// Only the tile functions for pairs differ from Avx512.
const TileFunctions& dot_product_tiles();
// Pairs in A and B without the instruction: slower than `bf16` of the same table, for tests of that path.
template <class Isa>
const TileFunctions& pair_tiles();
template <>
const TileFunctions& pair_tiles<Avx2>();
template <>
const TileFunctions& pair_tiles<Avx512>();

}  // namespace colossus::gemm_internal
