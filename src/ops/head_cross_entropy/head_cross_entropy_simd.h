// The cross-entropy of one row of logits, in place.
#pragma once

#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

struct LogitsRow {
  float* logits;   // (V), overwritten
  int64_t count;   // V
  int64_t target;  // in [0, V)
  float softcap;   // 0 is none
};

struct HeadCrossEntropyKernels {
  // logsumexp(z) - z[target], z the capped logits.
  float (*loss)(const LogitsRow& row);
  // The same, and the gradient of factor * loss by the logits before the cap: over the logits as float, or as bf16 over
  // the front half of their memory.
  float (*loss_and_grad_f32)(const LogitsRow& row, float factor);
  float (*loss_and_grad_bf16)(const LogitsRow& row, float factor);
};

template <class Isa>
const HeadCrossEntropyKernels& head_cross_entropy_kernels();
template <>
const HeadCrossEntropyKernels& head_cross_entropy_kernels<Avx2>();
template <>
const HeadCrossEntropyKernels& head_cross_entropy_kernels<Avx512>();

}  // namespace colossus
