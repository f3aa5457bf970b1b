#include <immintrin.h>

#include "device/cpu/peak_simd.h"

namespace colossus {
namespace {

constexpr int kChains = 16;

float dot_products(int64_t iterations) {
  const __m512bh one = (__m512bh)_mm512_set1_epi16(0x3F80);
  const __m512bh small = (__m512bh)_mm512_set1_epi16(0x3680);  // 2^-18: the sums stay far from overflow
  __m512 chain[kChains];
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) chain[c] = _mm512_set1_ps(static_cast<float>(c));
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) chain[c] = _mm512_dpbf16_ps(chain[c], one, small);
  }
  __m512 sum = _mm512_setzero_ps();
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) sum = _mm512_add_ps(sum, chain[c]);
  return _mm512_reduce_add_ps(sum);
}

}  // namespace

const PeakKernels& dot_product_peak_kernels() {
  static constexpr PeakKernels kernels = {dot_products, int64_t{2} * kChains * 32, nullptr};
  return kernels;
}

}  // namespace colossus
