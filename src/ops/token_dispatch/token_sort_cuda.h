// A stable counting sort of slots by expert, on the device. Slots are counted in chunks, in order, by a warp each.
#pragma once

#include "device/cuda/gpu.h"
#include "device/cuda/kernel_language.h"

namespace colossus {

struct TokenSort {
  const int32_t* experts;  // (S), each below E
  int num_slots, num_experts;
  int chunk_slots, num_chunks;
  int* places;  // (E, chunks): how many slots of the expert lie in chunks before this one
  int* ranks;   // (S): how many slots of the same expert lie before this one in its chunk
  int32_t* offsets;

  __device__ __forceinline__ int row_of(int slot) const {
    const int expert = experts[slot], chunk = slot / chunk_slots;
    return offsets[expert] + places[static_cast<int64_t>(expert) * num_chunks + chunk] + ranks[slot];
  }
};

int64_t token_sort_bytes(int64_t num_slots, int64_t num_experts);
// Fills offsets (E + 1); row_of() holds behind it, while the workspace does.
TokenSort sort_tokens(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                      std::byte* workspace, int32_t* offsets);

}  // namespace colossus
