// Vector loops of BiasGrad and AddBias.
#pragma once

#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

struct BiasKernels {
  // sums[j] += x[0][j] + x[1][j] + ..., row after row, for x (rows, columns) with `ld` elements between rows.
  void (*add_rows_f32)(const float* x, int64_t ld, int64_t rows, int64_t columns, float* sums);
  void (*add_rows_bf16)(const uint16_t* x, int64_t ld, int64_t rows, int64_t columns, float* sums);
  // y = x + bias, one row.
  void (*add_bias_f32)(const float* x, const float* bias, int64_t columns, float* y);
  void (*add_bias_bf16)(const uint16_t* x, const float* bias, int64_t columns, uint16_t* y);
};

template <class Isa>
const BiasKernels& bias_kernels();
template <>
const BiasKernels& bias_kernels<Avx2>();
template <>
const BiasKernels& bias_kernels<Avx512>();

}  // namespace colossus
