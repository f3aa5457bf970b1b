// The nonlinearities on vectors: value(x) and value_and_slope(x). Only for *_simd.cc (see device/cpu/simd.h).
//
// gelu_tanh and silu are both x * sigmoid(u(x)), since 1 + tanh(v) = 2 sigmoid(2 v); so their slopes are
// s + x u'(x) s (1 - s), and neither loses digits where s is near 0.
#pragma once

#include "device/cpu/simd.h"

namespace colossus {

struct IdentityFunction {
  static F32 value(F32 x) { return x; }
  static void value_and_slope(F32 x, F32& value, F32& slope) {
    value = x;
    slope = F32::broadcast(1.0F);
  }
};

struct GeluTanhFunction {
  static constexpr float kTwiceRoot = 1.5957691216F;  // 2 sqrt(2 / pi)
  static constexpr float kCubic = 0.044715F;

  // Beyond 13 sigmoid is 0 or 1 in fp32; bounding x keeps x^3 times a vanished slope from being inf * 0.
  static F32 bounded(F32 x) { return max(F32::broadcast(-13.0F), min(F32::broadcast(13.0F), x)); }
  static F32 gate(F32 x, F32 square) {
    return sigmoid(F32::broadcast(kTwiceRoot) * x * fma(F32::broadcast(kCubic), square, F32::broadcast(1.0F)));
  }
  static F32 value(F32 x) {
    const F32 b = bounded(x);
    return x * gate(b, b * b);
  }
  static void value_and_slope(F32 x, F32& value, F32& slope) {
    const F32 b = bounded(x), square = b * b;
    const F32 s = gate(b, square);
    const F32 du = fma(F32::broadcast(3 * kCubic * kTwiceRoot), square, F32::broadcast(kTwiceRoot));
    value = x * s;
    slope = fma(b * du, s * (F32::broadcast(1.0F) - s), s);
  }
};

struct SiluFunction {
  static F32 value(F32 x) { return x * sigmoid(x); }
  static void value_and_slope(F32 x, F32& value, F32& slope) {
    const F32 s = sigmoid(x);
    value = x * s;
    slope = fma(value, F32::broadcast(1.0F) - s, s);
  }
};

struct Relu2Function {
  // max returns its second operand for a NaN: it stays visible.
  static F32 value(F32 x) {
    const F32 positive = max(F32::zero(), x);
    return positive * positive;
  }
  static void value_and_slope(F32 x, F32& value, F32& slope) {
    const F32 positive = max(F32::zero(), x);
    value = positive * positive;
    slope = positive + positive;
  }
};

}  // namespace colossus
