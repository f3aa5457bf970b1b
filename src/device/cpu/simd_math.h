// Elementary functions on F32, the same source for each instruction set. Included through simd.h only.
// Errors are the largest seen against double arithmetic (simd_test.cc holds them there).
#pragma once

#include "device/cpu/simd.h"

namespace colossus {

// e^r - 1 for r = x - n ln 2, |r| <= ln(2) / 2, and n = round(x / ln 2). ln 2 is taken in two pieces, the first with so
// few bits that n times it is exact. The polynomial is the Chebyshev fit of (e^r - 1 - r) / r^2, |error| < 7e-8.
inline F32 exp_minus_one_reduced(F32 x, F32& n) {
  n = round(x * F32::broadcast(1.44269504F));
  F32 r = fma(n, F32::broadcast(-0.693359375F), x);
  r = fma(n, F32::broadcast(2.12194440e-4F), r);
  F32 q = F32::broadcast(1.392692661e-3F);
  q = fma(q, r, F32::broadcast(8.363773874e-3F));
  q = fma(q, r, F32::broadcast(4.166655011e-2F));
  q = fma(q, r, F32::broadcast(1.666657338e-1F));
  q = fma(q, r, F32::broadcast(0.5F));
  return fma(q, r * r, r);
}

// Relative error 1.2e-7 (about 1 ulp); exp(-inf) = 0, overflow gives inf, NaN stays.
inline F32 exp(F32 x) {
  // min and max return their second operand for a NaN.
  x = max(F32::broadcast(-104.0F), min(F32::broadcast(89.0F), x));
  F32 n;
  const F32 p = exp_minus_one_reduced(x, n);
  return scale_by_power_of_two(p + F32::broadcast(1.0F), n);
}

// Relative error 3e-7, near 0 too: tanh x = E / (E + 2) with E = e^(2x) - 1, computed without cancellation.
inline F32 tanh(F32 x) {
  const F32 twice = max(F32::broadcast(-20.0F), min(F32::broadcast(20.0F), x + x));
  F32 n;
  const F32 p = exp_minus_one_reduced(twice, n);
  const F32 scale = scale_by_power_of_two(F32::broadcast(1.0F), n);
  const F32 e = fma(scale, p, scale - F32::broadcast(1.0F));
  return e / (e + F32::broadcast(2.0F));
}

// 1 / (1 + e^-x), relative error 2e-7.
inline F32 sigmoid(F32 x) { return F32::broadcast(1.0F) / (F32::broadcast(1.0F) + exp(-x)); }

// Natural logarithm, relative error 2e-7: log 0 = -inf, log inf = inf, NaN below 0. With m the mantissa in
// [sqrt(1/2), sqrt(2)) and f = (m - 1) / (m + 1): log m = 2 (f + f^3/3 + f^5/5 + ...), |f| < 0.172.
inline F32 log(F32 x) {
  F32 m, n;
  split_mantissa(x, m, n);
  const F32::Mask small = m < F32::broadcast(0.70710678F);
  m = select(small, m + m, m);
  n = select(small, n - F32::broadcast(1.0F), n);
  const F32 t = m - F32::broadcast(1.0F);
  const F32 f = t / (t + F32::broadcast(2.0F));
  const F32 z = f * f;
  F32 s = fma(z, F32::broadcast(1.0F / 9), F32::broadcast(1.0F / 7));
  s = fma(s, z, F32::broadcast(1.0F / 5));
  s = fma(s, z, F32::broadcast(1.0F / 3));
  const F32 twice = f + f;
  F32 result = fma(twice * z, s, n * F32::broadcast(-2.12194440e-4F));
  result = fma(n, F32::broadcast(0.693359375F), twice + result);
  const F32 infinity = F32::broadcast(__builtin_inff());
  result = select(x == infinity, infinity, result);
  result = select(x == F32::zero(), -infinity, result);
  // False for a NaN as well.
  return select(x >= F32::zero(), result, F32::broadcast(__builtin_nanf("")));
}

// 1 / sqrt(x), both exact to the last rounding: the approximate instruction differs between processors.
inline F32 rsqrt(F32 x) { return F32::broadcast(1.0F) / sqrt(x); }

}  // namespace colossus
