// The nonlinearities in kernels: gelu_tanh and silu are both x * sigmoid(u(x)), since 1 + tanh(v) = 2 sigmoid(2 v).
#pragma once

#include "device/cuda/kernel_language.h"
#include "ops/activation/activation_kind.h"

namespace colossus {

struct ValueAndSlope {
  float value, slope;
};

__device__ __forceinline__ float sigmoid_of(float x) { return 1.0F / (1.0F + expf(-x)); }

__device__ __forceinline__ ValueAndSlope gelu_tanh_of(float x) {
  constexpr float kTwiceRoot = 1.5957691216F, kCubic = 0.044715F;  // 2 sqrt(2 / pi)
  // Beyond 13 the sigmoid is 0 or 1; bounding x keeps x^3 times a vanished slope from being inf * 0.
  const float b = fmaxf(-13.0F, fminf(13.0F, x)), square = b * b;
  const float s = sigmoid_of(kTwiceRoot * b * (1.0F + kCubic * square));
  const float du = kTwiceRoot + 3 * kCubic * kTwiceRoot * square;
  return {x * s, s + b * du * s * (1.0F - s)};
}

__device__ __forceinline__ ValueAndSlope activation_of(ActivationKind kind, float x) {
  switch (kind) {
    case ActivationKind::kNone: return {x, 1.0F};
    case ActivationKind::kGeluTanh: return gelu_tanh_of(x);
    case ActivationKind::kSilu: {
      const float s = sigmoid_of(x), value = x * s;
      return {value, s + value * (1.0F - s)};
    }
    case ActivationKind::kRelu2: {
      const float positive = x > 0 || x != x ? x : 0.0F;  // a NaN stays visible
      return {positive * positive, positive + positive};
    }
  }
  return {x, 1.0F};
}
__device__ __forceinline__ float activation_value(ActivationKind kind, float x) { return activation_of(kind, x).value; }

}  // namespace colossus
