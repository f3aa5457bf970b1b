// Float32<Avx512>: sixteen floats. Included through simd.h only.
#pragma once

#include "device/cpu/simd.h"

namespace colossus {

using Isa = Avx512;
using F32 = Float32<Avx512>;

template <>
struct Float32<Avx512> {
  static constexpr int kLanes = 16;
  struct Mask {
    __mmask16 bits;
  };

  __m512 v;

  static F32 zero() { return {_mm512_setzero_ps()}; }
  static F32 broadcast(float x) { return {_mm512_set1_ps(x)}; }

  static F32 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F32 load(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  // The first n of 0..kLanes elements, zeros behind them; memory past them is not touched.
  static F32 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static F32 load_first(const uint16_t* p, int n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(uint16_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
  void store_first(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store_first(uint16_t* p, int n) const { _mm256_mask_storeu_epi16(p, first(n), narrow(v)); }

  static __mmask16 first(int n) { return static_cast<__mmask16>((1U << n) - 1); }
  static F32 widen(__m256i half) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))}; }
  // Round to nearest even; a NaN stays one (the rounding addition could carry it into infinity).
  static __m256i narrow(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
  }
};

inline constexpr int kLanes = F32::kLanes;

inline F32 operator+(F32 a, F32 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32 operator-(F32 a, F32 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32 operator*(F32 a, F32 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32 operator/(F32 a, F32 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32 operator-(F32 a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0F))}; }
// a * b + c, rounded once.
inline F32 fma(F32 a, F32 b, F32 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// Where either is NaN: b.
inline F32 min(F32 a, F32 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32 max(F32 a, F32 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32 abs(F32 a) { return {_mm512_abs_ps(a.v)}; }
inline F32 sqrt(F32 a) { return {_mm512_sqrt_ps(a.v)}; }
inline F32 round(F32 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

inline F32::Mask operator<(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline F32::Mask operator<=(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline F32::Mask operator>(F32 a, F32 b) { return b < a; }
inline F32::Mask operator>=(F32 a, F32 b) { return b <= a; }
inline F32::Mask operator==(F32 a, F32 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
// mask ? a : b
inline F32 select(F32::Mask mask, F32 a, F32 b) { return {_mm512_mask_blend_ps(mask.bits, b.v, a.v)}; }

inline float reduce_add(F32 a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(F32 a) { return _mm512_reduce_max_ps(a.v); }

// x * 2^n for integral n, with gradual underflow and overflow to infinity.
inline F32 scale_by_power_of_two(F32 x, F32 n) { return {_mm512_scalef_ps(x.v, n.v)}; }

// x = mantissa * 2^exponent with mantissa in [0.5, 1); only for finite x > 0 (denormals included).
inline void split_mantissa(F32 x, F32& mantissa, F32& exponent) {
  mantissa.v = _mm512_getmant_ps(x.v, _MM_MANT_NORM_p5_1, _MM_MANT_SIGN_src);
  exponent.v = _mm512_add_ps(_mm512_getexp_ps(x.v), _mm512_set1_ps(1.0F));
}

// x as bf16 would hold it.
inline F32 round_to_bf16(F32 x) { return F32::widen(F32::narrow(x.v)); }

// kLanes words of two bf16 each, the lower half the even one.
inline void widen_pairs(const uint32_t* words, F32& even, F32& odd) {
  const __m512i w = _mm512_loadu_si512(words);
  even.v = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
  odd.v = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32(static_cast<int>(0xFFFF0000))));
}
// The same backwards, rounding.
inline void store_pairs(F32 even, F32 odd, uint32_t* words) {
  const __m512i low = _mm512_cvtepu16_epi32(F32::narrow(even.v));
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(F32::narrow(odd.v)), 16);
  _mm512_storeu_si512(words, _mm512_or_si512(low, high));
}

// rows[i][j] <- rows[j][i]; moves bits only.
inline void transpose(F32 (&rows)[kLanes]) {
  __m512 t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  // u[4 q + c] holds column 4 * block + c of rows 4 q .. 4 q + 3, for the four blocks of a register.
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512 low02 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
    const __m512 low13 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xDD);
    const __m512 high02 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
    const __m512 high13 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xDD);
    rows[c].v = _mm512_shuffle_f32x4(low02, high02, 0x88);
    rows[8 + c].v = _mm512_shuffle_f32x4(low02, high02, 0xDD);
    rows[4 + c].v = _mm512_shuffle_f32x4(low13, high13, 0x88);
    rows[12 + c].v = _mm512_shuffle_f32x4(low13, high13, 0xDD);
  }
}

}  // namespace colossus
