// The loops peak.cc times.
#pragma once

#include <stdint.h>

namespace colossus {

struct PeakKernels {
  // Runs `iterations` of independent multiply-adds in registers; the sum keeps them from being removed.
  float (*multiply_add)(int64_t iterations);
  int64_t flops_per_iteration;
  // Reads whole 64-byte lines.
  float (*read)(const float* data, int64_t count);
};

template <class Isa>
const PeakKernels& peak_kernels();

// bf16 dot products: only on processors with AVX512-BF16.
const PeakKernels& dot_product_peak_kernels();

}  // namespace colossus
