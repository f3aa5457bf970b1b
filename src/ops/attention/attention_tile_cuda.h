// Tiles of rows in shared memory and what a warp does with them on the tensor cores (mma.sync m16n8k16; fragments as
// multiply_16x8x16 says).
#pragma once

#include "ops/attention/attention_cuda.h"

namespace colossus {

inline constexpr int kTileWarps = 4, kTileThreads = kTileWarps * 32;

// Rows are 16 bytes further apart than they are long: eight of them, which ldmatrix reads at once, meet no bank twice.
template <int kDim>
inline constexpr int kRowStride = kDim + 8;

// Rows of one head of one or two (B, T, heads * dim) tensors, of which they begin at element `at`.
struct HeadRows {
  const BFloat16* x;
  const BFloat16* y;  // null: only x
  int64_t at;
  int stride;
  int end;  // rows from here on are zeros
  int dim;  // columns from here on, too
};

// Rows first .. first + kRows - 1 into a tile, those of y into the one behind it, by threads 0 .. kThreads - 1. Not
// unrolled: addresses would take the registers of sums.
template <int kDim, int kRows, int kThreads>
__device__ __forceinline__ void load_tiles(const HeadRows& from, int first, int thread, BFloat16* tile) {
  constexpr int kTile = kRows * kRowStride<kDim>;
  constexpr int kPacks = kDim / 8, kStep = kThreads / kPacks;  // rows at once
  static_assert(kThreads % kPacks == 0 && kRows % kStep == 0);
  const int row = thread / kPacks, column = thread % kPacks * 8;
  const bool wide = column < from.dim;
  int64_t at = from.at + static_cast<int64_t>(first + row) * from.stride + column;
  BFloat16* to = tile + row * kRowStride<kDim> + column;
#pragma unroll 1
  for (int i = 0; i < kRows; i += kStep) {
    const bool there = wide && first + row + i < from.end;
    gpu::copy_async_16(to, from.x + (there ? at : 0), there);
    if (from.y) gpu::copy_async_16(to + kTile, from.y + (there ? at : 0), there);
    at += static_cast<int64_t>(kStep) * from.stride;
    to += kStep * kRowStride<kDim>;
  }
}

// A warp's 16 rows of a tile back to rows first .. of x; to x's row `end`.
template <int kDim>
__device__ __forceinline__ void store_tile_rows(const BFloat16* tile, BFloat16* x, int stride, int first, int end,
                                                int dim) {
  const int lane = gpu::lane();
  constexpr int kPacks = kDim / 8;
#pragma unroll
  for (int i = 0; i < 16 * kPacks / 32; ++i) {
    const int at = i * 32 + lane, row = at / kPacks, column = at % kPacks * 8;
    if (first + row < end && column < dim)
      *reinterpret_cast<gpu::Pack<BFloat16, 8>*>(x + static_cast<int64_t>(first + row) * stride + column) =
          *reinterpret_cast<const gpu::Pack<BFloat16, 8>*>(tile + row * kRowStride<kDim> + column);
  }
}

// A (16, 16) at columns `column` .. of 16 rows: the left operand.
template <int kDim>
__device__ __forceinline__ void load_left(unsigned (&a)[4], const BFloat16* rows, int column) {
  const int lane = gpu::lane();
  gpu::load_matrices<false>(a, rows + lane % 16 * kRowStride<kDim> + column + lane / 16 * 8);
}
// Columns `column` .. + 15 of 16 rows, transposed: right operands (16, 8) for rows 0-7, b[0], b[1], and 8-15.
template <int kDim>
__device__ __forceinline__ void load_right_transposed(unsigned (&b)[4], const BFloat16* rows, int column) {
  const int lane = gpu::lane();
  gpu::load_matrices<false>(b, rows + (lane % 8 + lane / 16 * 8) * kRowStride<kDim> + column + lane / 8 % 2 * 8);
}
// 16 rows as they are: right operands (16, 8) for columns `column` .. + 7 and .. + 15.
template <int kDim>
__device__ __forceinline__ void load_right(unsigned (&b)[4], const BFloat16* rows, int column) {
  const int lane = gpu::lane();
  gpu::load_matrices<true>(b, rows + lane % 16 * kRowStride<kDim> + column + lane / 16 * 8);
}

// What a lane holds of (16 kTall, 8 kWide): of piece [i][j], rows 16 i + lane / 4 (elements 0, 1) and that + 8 (2, 3),
// columns 8 j + lane % 4 * 2 and the next.
template <int kTall, int kWide>
struct Sums {
  float at[kTall][kWide][4];
  __device__ __forceinline__ void set_zero() {
#pragma unroll
    for (int i = 0; i < kTall; ++i)
#pragma unroll
      for (int j = 0; j < kWide; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) at[i][j][e] = 0;
  }
};

// sums = left (16 kTall rows of a tile) times right (8 kWide rows of a tile), transposed.
template <int kDim, int kTall, int kWide>
__device__ __forceinline__ void multiply_transposed(Sums<kTall, kWide>& sums, const BFloat16* left,
                                                    const BFloat16* right) {
  static_assert(kWide % 2 == 0);
  sums.set_zero();
#pragma unroll
  for (int column = 0; column < kDim; column += 16) {
    unsigned a[kTall][4];
#pragma unroll
    for (int i = 0; i < kTall; ++i) load_left<kDim>(a[i], left + i * 16 * kRowStride<kDim>, column);
#pragma unroll
    for (int j = 0; j < kWide; j += 2) {
      unsigned b[4];
      load_right_transposed<kDim>(b, right + j * 8 * kRowStride<kDim>, column);
      const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
      for (int i = 0; i < kTall; ++i) {
        gpu::multiply_16x8x16(sums.at[i][j], a[i], b0);
        gpu::multiply_16x8x16(sums.at[i][j + 1], a[i], b1);
      }
    }
  }
}

// sums += weights (16 kTall, 8 kInner), rounded to bf16, times 8 kInner rows of a tile.
template <int kDim, int kTall, int kInner>
__device__ __forceinline__ void add_product(Sums<kTall, kDim / 8>& sums, const Sums<kTall, kInner>& weights,
                                            const BFloat16* rows) {
  static_assert(kInner % 2 == 0);
#pragma unroll
  for (int k = 0; k < kInner; k += 2) {
    unsigned a[kTall][4];
#pragma unroll
    for (int i = 0; i < kTall; ++i) {
      const auto &left = weights.at[i][k], &right = weights.at[i][k + 1];
      a[i][0] = gpu::bf16_pair(left[0], left[1]);
      a[i][1] = gpu::bf16_pair(left[2], left[3]);
      a[i][2] = gpu::bf16_pair(right[0], right[1]);
      a[i][3] = gpu::bf16_pair(right[2], right[3]);
    }
#pragma unroll
    for (int j = 0; j < kDim / 8; j += 2) {
      unsigned b[4];
      load_right<kDim>(b, rows + k * 8 * kRowStride<kDim>, j * 8);
      const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
#pragma unroll
      for (int i = 0; i < kTall; ++i) {
        gpu::multiply_16x8x16(sums.at[i][j], a[i], b0);
        gpu::multiply_16x8x16(sums.at[i][j + 1], a[i], b1);
      }
    }
  }
}

// 16 rows of sums, rounded, into a tile's rows.
template <int kWide>
__device__ __forceinline__ void put_rows(const float (&sums)[kWide][4], float upper, float lower, BFloat16* rows) {
  constexpr int kStride = kRowStride<kWide * 8>;
  BFloat16* to = rows + gpu::lane() / 4 * kStride + gpu::lane() % 4 * 2;
#pragma unroll
  for (int j = 0; j < kWide; ++j) {
    *reinterpret_cast<unsigned*>(to + j * 8) = gpu::bf16_pair(sums[j][0] * upper, sums[j][1] * upper);
    *reinterpret_cast<unsigned*>(to + 8 * kStride + j * 8) = gpu::bf16_pair(sums[j][2] * lower, sums[j][3] * lower);
  }
}

// Sum and maximum over the four lanes that share a row.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

struct SoftmaxRow {
  float outer;  // see ScoreRule
  SeenKeys seen;
};
// The online softmax of 16 kTall queries of a warp; index 2 i is row lane / 4 of piece i, 2 i + 1 that + 8.
template <int kTall>
struct OnlineSoftmax {
  const SoftmaxRow* rows;  // of each of the warp's queries, in shared memory: registers are scarce
  float largest[2 * kTall];
  float sum[2 * kTall];  // this lane's part

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (int r = 0; r < 2 * kTall; ++r) largest[r] = kNothingSeenYet, sum[r] = 0;
  }

  // Products q . k with the keys from first_key on become weights, relative to the largest score so far; o is
  // corrected for a new largest one. `masked`: not every query sees every key.
  template <int kKeys, int kWide>
  __device__ __forceinline__ void take_in(const ScoreRule& rule, int first_key, bool masked, Sums<kTall, kKeys>& scores,
                                          Sums<kTall, kWide>& o) {
    if (rule.capped)
#pragma unroll
      for (int i = 0; i < kTall; ++i)
#pragma unroll
        for (int j = 0; j < kKeys; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) scores.at[i][j][e] = quick_tanh(rule.inner * scores.at[i][j][e]);
#pragma unroll
    for (int i = 0; i < kTall; ++i)
#pragma unroll
      for (int j = 0; j < kKeys; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const SoftmaxRow& row = rows[i * 16 + e / 2 * 8 + gpu::lane() / 4];
          float score = row.outer * scores.at[i][j][e];
          if (masked) {
            const int key = first_key + j * 8 + gpu::lane() % 4 * 2 + e % 2;
            score = row.seen.first <= key && key <= row.seen.last ? score : kMaskedScore;
          }
          scores.at[i][j][e] = score;
        }
#pragma unroll
    for (int row = 0; row < 2 * kTall; ++row) {
      const int i = row / 2, e = row % 2 * 2;
      float now = largest[row];
#pragma unroll
      for (int j = 0; j < kKeys; ++j) now = fmaxf(now, fmaxf(scores.at[i][j][e], scores.at[i][j][e + 1]));
      now = row_max(now);
      const float shrink = gpu::quick_exp2(largest[row] - now);
      largest[row] = now;
      sum[row] *= shrink;
#pragma unroll
      for (int j = 0; j < kKeys; ++j)
#pragma unroll
        for (int f = e; f < e + 2; ++f) {
          scores.at[i][j][f] = gpu::quick_exp2(scores.at[i][j][f] - now);
          sum[row] += scores.at[i][j][f];
        }
#pragma unroll
      for (int j = 0; j < kWide; ++j) o.at[i][j][e] *= shrink, o.at[i][j][e + 1] *= shrink;
    }
  }
};

}  // namespace colossus
