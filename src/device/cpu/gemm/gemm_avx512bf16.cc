// The register tile with AVX512-BF16 dot products: each word is two bf16 of consecutive k.
#include <immintrin.h>

#include "device/cpu/gemm/gemm_kernels.h"
#include "device/cpu/gemm/gemm_tile.h"

namespace colossus::gemm_internal {
namespace {

struct DotStep {
  using Vector = __m512;
  static constexpr int kVectorLanes = 16;
  static constexpr int kRowsMax = 14;
  static constexpr int kWordsOfA = 1;

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }

  template <int kRows, class A>
  [[gnu::always_inline]] static void step(__m512 (&acc)[kRows][kTileVectors], const A& a, int64_t word,
                                          const uint32_t* b) {
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b);
    const __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + 16);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(*a.at(r, word)));
      acc[r][0] = _mm512_dpbf16_ps(acc[r][0], x, b0);
      acc[r][1] = _mm512_dpbf16_ps(acc[r][1], x, b1);
    }
  }
};

}  // namespace

const TileFunctions& dot_product_tiles() {
  static constexpr TileFunctions functions = tile_functions<DotStep>();
  return functions;
}

}  // namespace colossus::gemm_internal
