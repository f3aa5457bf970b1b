#pragma once

#include <stdint.h>

namespace colossus {

// What a step of AdamW multiplies with, the same for every element.
struct AdamWStep {
  float scale;  // of the gradient
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;        // lr / (1 - beta1^t)
  float root_correction;  // 1 / sqrt(1 - beta2^t)
  float eps;
  float kept;  // 1 - lr * weight_decay
};

struct AdamWKernels {
  void (*update)(const AdamWStep& step, const float* grad, float* param, float* m, float* v, int64_t count);
};

template <class Isa>
const AdamWKernels& adamw_kernels();

}  // namespace colossus
