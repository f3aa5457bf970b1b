#include "device/cpu/peak_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

// Enough for two units of four cycles' latency; with the two operands they fit AVX2's registers.
constexpr int kChains = 12;

float multiply_add(int64_t iterations) {
  // x -> x / 2 + 1 stays near 2: no overflow, no denormals.
  const F32 half = F32::broadcast(0.5F);
  const F32 one = F32::broadcast(1.0F);
  F32 chain[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) chain[c] = F32::broadcast(static_cast<float>(c));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) chain[c] = fma(chain[c], half, one);
  }
  F32 sum = F32::zero();
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sum = sum + chain[c];
  return reduce_add(sum);
}

float read(const float* data, int64_t count) {
  constexpr int kUnroll = 8;
  F32 sum[kUnroll];
#pragma GCC unroll 8
  for (int u = 0; u < kUnroll; ++u) sum[u] = F32::zero();
  for (int64_t i = 0; i + kUnroll * kLanes <= count; i += kUnroll * kLanes) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 1024), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 1024 + 16), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 1024 + 32), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 1024 + 48), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u) sum[u] = sum[u] + F32::load(data + i + u * kLanes);
  }
  F32 total = F32::zero();
#pragma GCC unroll 8
  for (int u = 0; u < kUnroll; ++u) total = total + sum[u];
  return reduce_add(total);
}

}  // namespace

template <>
const PeakKernels& peak_kernels<Isa>() {
  static constexpr PeakKernels kernels = {multiply_add, int64_t{2} * kChains * kLanes, read};
  return kernels;
}

}  // namespace colossus
