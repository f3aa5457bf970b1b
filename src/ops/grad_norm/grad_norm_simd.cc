#include "ops/grad_norm/grad_norm_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

// Eight sums in fp64. Products of two floats are exact in fp64 and cannot overflow. A template so that only the
// instructions of the set at hand are compiled.
template <class Set>
struct Sums;

template <class Set>
  requires(Float32<Set>::kLanes == 16)
struct Sums<Set> {
  __m512d v = _mm512_setzero_pd();
  void add_squares(const float* x) {
    const __m512d wide = _mm512_cvtps_pd(_mm256_loadu_ps(x));
    v = _mm512_fmadd_pd(wide, wide, v);
  }
  void add(const Sums& other) { v = _mm512_add_pd(v, other.v); }
  void store(double* to) const { _mm512_storeu_pd(to, v); }
};

template <class Set>
  requires(Float32<Set>::kLanes == 8)
struct Sums<Set> {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  void add_squares(const float* x) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x)), b = _mm256_cvtps_pd(_mm_loadu_ps(x + 4));
    low = _mm256_fmadd_pd(a, a, low);
    high = _mm256_fmadd_pd(b, b, high);
  }
  void add(const Sums& other) {
    low = _mm256_add_pd(low, other.low);
    high = _mm256_add_pd(high, other.high);
  }
  void store(double* to) const {
    _mm256_storeu_pd(to, low);
    _mm256_storeu_pd(to + 4, high);
  }
};

double sum_of_squares(const float* x, int64_t count) {
  constexpr int64_t kWidth = 8, kSums = 4;
  Sums<Isa> sums[kSums];
  int64_t i = 0;
  for (; i + kSums * kWidth <= count; i += kSums * kWidth)
#pragma GCC unroll 4
    for (int64_t j = 0; j < kSums; ++j) sums[j].add_squares(x + i + j * kWidth);
  // Vectors first: lane after lane is a chain that a short block would wait for.
  sums[0].add(sums[1]);
  sums[2].add(sums[3]);
  sums[0].add(sums[2]);
  double lanes[kWidth];
  sums[0].store(lanes);
  double total = 0;
  for (const double lane : lanes) total += lane;
  for (; i < count; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

}  // namespace

template <>
const GradNormKernels& grad_norm_kernels<Isa>() {
  static constexpr GradNormKernels kernels = {.sum_of_squares = sum_of_squares};
  return kernels;
}

}  // namespace colossus
