// Sums of squares in fp64.
#pragma once

#include <stdint.h>

namespace colossus {

struct GradNormKernels {
  // The order of addition depends on count and the instruction set only.
  double (*sum_of_squares)(const float* x, int64_t count);
};

template <class Isa>
const GradNormKernels& grad_norm_kernels();

}  // namespace colossus
