// Vector loops of Router and RouterGrad, one token at a time.
#pragma once

#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

struct RouterRow {
  const float* logits;  // (E)
  int64_t num_experts;
  float softcap;  // 0 is none
};

struct RouterGradRow {
  const float* dp;     // (E), the gradient of the probabilities
  const float* probs;  // (E)
  float z_factor;      // of the gradient of logsumexp: 2 * daux * z_loss / N, times the logsumexp
  float* dlogits;      // (E)
};

struct RouterKernels {
  // probs = softmax of the capped logits; their logsumexp.
  float (*softmax)(const RouterRow& row, float* probs);
  void (*grad)(const RouterRow& row, const RouterGradRow& grad);
  void (*add)(float* sum, const float* x, int64_t count);  // sum += x
};

template <class Isa>
const RouterKernels& router_kernels();
template <>
const RouterKernels& router_kernels<Avx2>();
template <>
const RouterKernels& router_kernels<Avx512>();

}  // namespace colossus
