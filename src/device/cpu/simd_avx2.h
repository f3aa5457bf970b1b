// Float32<Avx2>: eight floats. Included through simd.h only.
#pragma once

#include "device/cpu/simd.h"

namespace colossus {

using Isa = Avx2;
using F32 = Float32<Avx2>;

template <>
struct Float32<Avx2> {
  static constexpr int kLanes = 8;
  struct Mask {
    __m256 bits;
  };

  __m256 v;

  static F32 zero() { return {_mm256_setzero_ps()}; }
  static F32 broadcast(float x) { return {_mm256_set1_ps(x)}; }

  static F32 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F32 load(const uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  // The first n of 0..kLanes elements, zeros behind them; memory past them is not touched.
  static F32 load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first(n))}; }
  static F32 load_first(const uint16_t* p, int n) {
    alignas(16) uint16_t whole[kLanes] = {};
    for (int i = 0; i < n; ++i) whole[i] = p[i];
    return load(whole);
  }

  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(uint16_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v)); }
  void store_first(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  void store_first(uint16_t* p, int n) const {
    alignas(16) uint16_t whole[kLanes];
    store(whole);
    for (int i = 0; i < n; ++i) p[i] = whole[i];
  }

  static __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static F32 widen(__m128i half) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))}; }
  // Round to nearest even; a NaN stays one (the rounding addition could carry it into infinity).
  static __m128i narrow(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }
};

inline constexpr int kLanes = F32::kLanes;

inline F32 operator+(F32 a, F32 b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F32 operator-(F32 a) { return {_mm256_xor_ps(a.v, _mm256_set1_ps(-0.0F))}; }
// a * b + c, rounded once.
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// Where either is NaN: b.
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0F), a.v)}; }
inline F32 sqrt(F32 a) { return {_mm256_sqrt_ps(a.v)}; }
inline F32 round(F32 a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

inline F32::Mask operator<(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline F32::Mask operator<=(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
inline F32::Mask operator>(F32 a, F32 b) { return b < a; }
inline F32::Mask operator>=(F32 a, F32 b) { return b <= a; }
inline F32::Mask operator==(F32 a, F32 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
// mask ? a : b
inline F32 select(F32::Mask mask, F32 a, F32 b) { return {_mm256_blendv_ps(b.v, a.v, mask.bits)}; }

inline float reduce_add(F32 a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(F32 a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// x * 2^n for integral n in -250..250, with gradual underflow and overflow to infinity: in two halves, since 2^n alone
// may not be a float.
inline F32 scale_by_power_of_two(F32 x, F32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const F32 a = {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23))};
  const F32 b = {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23))};
  return x * a * b;
}

// x = mantissa * 2^exponent with mantissa in [0.5, 1); only for finite x > 0 (denormals included).
inline void split_mantissa(F32 x, F32& mantissa, F32& exponent) {
  const F32::Mask tiny = x < F32::broadcast(0x1p-126F);
  const __m256i bits = _mm256_castps_si256(select(tiny, x * F32::broadcast(0x1p24F), x).v);
  const __m256i fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x007FFFFF));
  mantissa.v = _mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3F000000)));
  const F32 biased = {_mm256_cvtepi32_ps(_mm256_srli_epi32(bits, 23))};
  exponent = biased - select(tiny, F32::broadcast(126.0F + 24.0F), F32::broadcast(126.0F));
}

// x as bf16 would hold it.
inline F32 round_to_bf16(F32 x) { return F32::widen(F32::narrow(x.v)); }

// kLanes words of two bf16 each, the lower half the even one.
inline void widen_pairs(const uint32_t* words, F32& even, F32& odd) {
  const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  even.v = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
  odd.v = _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32(static_cast<int>(0xFFFF0000))));
}
// The same backwards, rounding.
inline void store_pairs(F32 even, F32 odd, uint32_t* words) {
  const __m256i low = _mm256_cvtepu16_epi32(F32::narrow(even.v));
  const __m256i high = _mm256_slli_epi32(_mm256_cvtepu16_epi32(F32::narrow(odd.v)), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), _mm256_or_si256(low, high));
}

// rows[i][j] <- rows[j][i]; moves bits only.
inline void transpose(F32 (&rows)[kLanes]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  // u[4 q + c] holds columns c and 4 + c of rows 4 q .. 4 q + 3.
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int c = 0; c < 4; ++c) {
    rows[c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
    rows[4 + c].v = _mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
  }
}

}  // namespace colossus
