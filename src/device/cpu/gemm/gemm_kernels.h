// What a matrix multiplication is made of, per instruction set: the register tile, the packing of both operands, and
// the epilogue. Plain structs over raw pointers and no standard headers (simd.h says why). gemm.cc drives them.
//
// Layouts, in 32-bit *words* (a float, or two bf16 of consecutive k, the lower half being the even k):
//   panel of B   [k word][kPanelColumns]            columns past N and the odd k past K are zeros
//   tile of A    by rows:    [row][kRowWords]       a row-major A is copied as it is
//                by columns: [k word][kTileColumn]  a transposed A is copied as it is
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
// One line more than a block: with an odd number of lines between them, the rows fall into different sets of L1.
inline constexpr int kRowWords = kBlockWords + 16;
inline constexpr int kTileColumn = 16;
inline constexpr int64_t kTileBytes = int64_t{kBlockWords} * kTileColumn * 4;  // holds either layout of a tile of A

// One register tile: out = start + A B + add, summed along k in order.
struct TileJob {
  const uint32_t* a;
  int64_t a_stride;  // words between rows of A; not used by columns
  const uint32_t* b;
  int64_t num_words;   // of the panel
  const float* start;  // null for zeros; dense [rows][kPanelColumns]
  const float* add;    // null for zeros; ld_out as out
  float* out;          // kPanelColumns wide
  int64_t ld_out;
};
using TileFunction = void (*)(const TileJob& job);

// One per number of rows, 1..max_rows, for each layout of A.
struct TileFunctions {
  int max_rows;
  TileFunction by_rows[kMaxTileRows + 1];
  TileFunction by_columns[kMaxTileRows + 1];
};

// A rectangle of A for one tile. Elements are float or bf16; the destination words hold floats or pairs of bf16.
struct PackAJob {
  const void* source;  // first element
  int64_t ld;          // elements between rows as stored
  int rows;            // of the tile
  int64_t k;           // > 0; padded with zeros to an even count
  bool source_bf16;
  bool round_to_bf16;  // float destination: round on the way
  uint32_t* tile;
};

// `k` rows of at most kPanelColumns columns of B for one panel.
struct PackBJob {
  const void* source;
  int64_t ld;
  int64_t k;
  int columns;
  bool source_bf16;
  bool transposed;     // source is (N, K)
  bool round_to_bf16;  // float destination: round on the way
  uint32_t* panel;
};

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
  void (*pack_a_f32_by_rows)(const PackAJob&);
  void (*pack_a_f32_by_columns)(const PackAJob&);
  void (*pack_a_pairs_by_rows)(const PackAJob&);
  void (*pack_a_pairs_by_columns)(const PackAJob&);
  void (*pack_b_f32)(const PackBJob&);
  void (*pack_b_pairs)(const PackBJob&);
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
