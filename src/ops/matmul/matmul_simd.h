// Vector loops of BiasGrad.
#pragma once

#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

struct BiasGradKernels {
  // sums[j] += x[0][j] + x[1][j] + ..., row after row, for x (rows, columns) with `ld` elements between rows.
  void (*add_rows_f32)(const float* x, int64_t ld, int64_t rows, int64_t columns, float* sums);
  void (*add_rows_bf16)(const uint16_t* x, int64_t ld, int64_t rows, int64_t columns, float* sums);
};

template <class Isa>
const BiasGradKernels& bias_grad_kernels();
template <>
const BiasGradKernels& bias_grad_kernels<Avx2>();
template <>
const BiasGradKernels& bias_grad_kernels<Avx512>();

}  // namespace colossus
