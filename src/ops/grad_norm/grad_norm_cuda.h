// Sums of squares in fp64 by GPU kernels: the bits of grad_norm_simd.h.
#pragma once

#include "device/cuda/row_kernels.h"
#include "ops/grad_norm/grad_norm.h"

namespace colossus::gpu {

// Eight neighbouring threads of a warp take a block of up to kSumOfSquaresBlock elements, at a multiple of 16 bytes: of
// each 32 elements, 16 bytes each. So four sums of a thread are four of the 32 by which the CPU's kernel sums, and are
// added in the same order. The whole warp must come here; those with nothing to do with count 0. The sum is that of the
// first of the eight.
inline constexpr int kThreadsPerSquaresBlock = 8;
__device__ __forceinline__ double sum_of_squares(const float* block, int count) {
  constexpr int kSize = kPackSize<float>, kStep = kThreadsPerSquaresBlock * kSize;
  const int thread = lane() % kThreadsPerSquaresBlock;
  double sums[kSize] = {};
  int at = 0;
  const auto add = [&](const float(&values)[kSize]) {
    for (int i = 0; i < kSize; ++i) {
      const double x = values[i];
      sums[i] += x * x;  // exact product: with or without fma
    }
  };
  // Eight loads under way hide the memory's latency, even where a warp or two is all there is for a processor.
  constexpr int kLoads = 8;
  for (; at + kLoads * kStep <= count; at += kLoads * kStep) {
    float values[kLoads][kSize];
    for (int load = 0; load < kLoads; ++load) load_floats(block + at + load * kStep + thread * kSize, values[load]);
    for (int load = 0; load < kLoads; ++load) add(values[load]);
  }
  for (; at + kStep <= count; at += kStep) {
    float values[kSize];
    load_floats(block + at + thread * kSize, values);
    add(values);
  }
  for (int i = 0; i < kSize; ++i) sums[i] += __shfl_down_sync(kAllLanes, sums[i], 2);
  for (int i = 0; i < kSize; ++i) sums[i] += __shfl_down_sync(kAllLanes, sums[i], 4);
  double total = 0;
  for (int i = 0; i < kSize; ++i) total += sums[i];
  for (int i = 0; i < kSize; ++i) total += __shfl_down_sync(kAllLanes, sums[i], 1);
  for (; at < count; ++at) total += static_cast<double>(block[at]) * static_cast<double>(block[at]);
  return total;
}

}  // namespace colossus::gpu
