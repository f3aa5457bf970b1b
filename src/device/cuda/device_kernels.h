// Kernels that belong to no operation.
#pragma once

#include "device/cuda/gpu.h"
#include "tensor/dtype.h"

namespace colossus {

// bf16, rounded to nearest even.
void round_to_bf16(gpu::Stream stream, const float* from, std::byte* to, int64_t num_elements);
void widen_bf16(gpu::Stream stream, const std::byte* from, float* to, int64_t num_elements);
// into += from
void add_floats(gpu::Stream stream, float* into, const float* from, int64_t num_elements);
// sum[i] = terms[0][i] + terms[1][i] + ..., in this order; bf16 in fp32, rounded once. terms: (num_terms, count) of
// f32, f64, bf16 or i64.
void add_in_order(gpu::Stream stream, DType dtype, const std::byte* terms, int64_t num_terms, int64_t count,
                  std::byte* sum);
// Memory that the host reads while work is under way (pinned): the number, and the GPU's clock in nanoseconds.
void write_number(gpu::Stream stream, int64_t* pinned, int64_t number);
void write_time(gpu::Stream stream, int64_t* pinned);

}  // namespace colossus
