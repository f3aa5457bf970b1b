// Kernels that belong to no operation.
#pragma once

#include "device/cuda/gpu.h"

namespace colossus {

// bf16, rounded to nearest even.
void round_to_bf16(gpu::Stream stream, const float* from, std::byte* to, int64_t num_elements);
void widen_bf16(gpu::Stream stream, const std::byte* from, float* to, int64_t num_elements);
// into += from
void add_floats(gpu::Stream stream, float* into, const float* from, int64_t num_elements);

}  // namespace colossus
