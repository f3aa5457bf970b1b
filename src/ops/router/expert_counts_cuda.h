#pragma once

#include <cstdint>

#include "device/cuda/gpu.h"

namespace colossus {

// counts (E) of experts (S), each below E.
void count_experts(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                   unsigned* counts);
void count_experts(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                   unsigned long long* counts);

}  // namespace colossus
