// A tile of a matrix product without tensor cores, in fp32: for fp32 operands, and for rows that do not begin at
// multiples of 16 bytes. Tests and tiny models have those.
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus {

inline constexpr int kPlainTile = 64, kPlainDepth = 16, kPlainThreads = 256;

template <class T>
struct PlainOperand {
  const T* data;  // of the tile's first row (column), depth 0
  int64_t size_stride, depth_stride;
  int size;  // rows (columns) from `data` on
};

template <class T>
__device__ __forceinline__ void load_plain_slice(const PlainOperand<T>& operand, int begin, int depth,
                                                 float (&slice)[kPlainDepth][kPlainTile + 1]) {
  for (int at = static_cast<int>(threadIdx.x); at < kPlainDepth * kPlainTile; at += kPlainThreads) {
    const bool by_depth = operand.depth_stride == 1;
    const int k = by_depth ? at % kPlainDepth : at / kPlainTile, i = by_depth ? at / kPlainDepth : at % kPlainTile;
    const bool there = begin + k < depth && i < operand.size;
    slice[k][i] =
        there ? gpu::float_of(operand.data[i * operand.size_stride + (begin + k) * operand.depth_stride]) : 0.0F;
  }
}

// to[row * stride + column] = the sum + addend there, if there is one; `to` may be the addend.
template <class T, class To>
__device__ __forceinline__ void multiply_plain_tile(const PlainOperand<T>& a, const PlainOperand<T>& b, int depth,
                                                    const To* addend, To* to, int64_t stride) {
  constexpr int kOwn = 4, kStep = kPlainTile / kOwn;
  static_assert(kStep * kStep == kPlainThreads);
  __shared__ float slice_a[kPlainDepth][kPlainTile + 1], slice_b[kPlainDepth][kPlainTile + 1];
  const int first_row = static_cast<int>(threadIdx.x) / kStep, first_column = static_cast<int>(threadIdx.x) % kStep;
  float sums[kOwn][kOwn] = {};
  for (int begin = 0; begin < depth; begin += kPlainDepth) {
    load_plain_slice(a, begin, depth, slice_a);
    load_plain_slice(b, begin, depth, slice_b);
    __syncthreads();
    for (int k = 0; k < kPlainDepth; ++k)
      for (int i = 0; i < kOwn; ++i)
        for (int j = 0; j < kOwn; ++j)
          sums[i][j] += slice_a[k][first_row + i * kStep] * slice_b[k][first_column + j * kStep];
    __syncthreads();
  }
  for (int i = 0; i < kOwn; ++i)
    for (int j = 0; j < kOwn; ++j) {
      const int row = first_row + i * kStep, column = first_column + j * kStep;
      if (row >= a.size || column >= b.size) continue;
      const int64_t at = row * stride + column;
      to[at] = gpu::rounded<To>(sums[i][j] + (addend ? gpu::float_of(addend[at]) : 0.0F));
    }
}

}  // namespace colossus
