#include "ops/token_dispatch/token_sort_cuda.h"

#include "device/cuda/row_kernels.h"

namespace colossus {
namespace {

// So few chunks that one warp adds those of an expert at once.
constexpr int64_t kMostChunks = 256;
constexpr int kWarps = 4;  // of a block that counts

int64_t chunk_slots(int64_t num_slots) { return gpu::divide_up(num_slots, 32 * kMostChunks) * 32; }

// The lanes whose slot has the same expert as this one's.
__device__ __forceinline__ unsigned lanes_like(int expert, bool there, int num_experts) {
  unsigned like = __ballot_sync(kAllLanes, there);
  for (int bit = 0; (num_experts - 1) >> bit > 0; ++bit) {
    const bool is_set = (expert >> bit & 1) != 0;
    const unsigned lanes = __ballot_sync(kAllLanes, is_set);
    like &= is_set ? lanes : ~lanes;
  }
  return like;
}

// Ranks, and how many slots of each expert a chunk has, in `places`. 8 bytes a slot, and 4 for each expert of a chunk.
__global__ void rank_kernel(TokenSort sort) {
  const int chunk = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (chunk >= sort.num_chunks) return;
  for (int e = gpu::lane(); e < sort.num_experts; e += 32)
    sort.places[static_cast<int64_t>(e) * sort.num_chunks + chunk] = 0;
  __syncwarp();
  const int begin = chunk * sort.chunk_slots;
  const int end = sort.num_slots - begin < sort.chunk_slots ? sort.num_slots : begin + sort.chunk_slots;
  for (int first = begin; first < end; first += 32) {
    const int slot = first + gpu::lane();
    const bool there = slot < end;
    const int expert = there ? sort.experts[slot] : 0;
    const unsigned like = lanes_like(expert, there, sort.num_experts);
    int* count = sort.places + static_cast<int64_t>(expert) * sort.num_chunks + chunk;
    const int before = *count, in_warp = __popc(like & ((1U << gpu::lane()) - 1));
    __syncwarp();
    if (there) sort.ranks[slot] = before + in_warp;
    if (there && in_warp == 0) *count = before + __popc(like);
    __syncwarp();
  }
}

// Counts to places, by a warp for each expert, then the experts' sums to offsets: one block, which has at most
// kMostChunks counts of each expert to read.
__global__ void place_kernel(TokenSort sort) {
  constexpr int kOwn = kMostChunks / 32;
  for (int expert = static_cast<int>(threadIdx.x) / 32; expert < sort.num_experts;
       expert += static_cast<int>(blockDim.x) / 32) {
    int* places = sort.places + static_cast<int64_t>(expert) * sort.num_chunks;
    int counts[kOwn], own = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int chunk = gpu::lane() * kOwn + i;
      counts[i] = chunk < sort.num_chunks ? places[chunk] : 0;
      own += counts[i];
    }
    const int end = gpu::warp_prefix_sum(own);
    int place = end - own;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int chunk = gpu::lane() * kOwn + i;
      if (chunk < sort.num_chunks) places[chunk] = place;
      place += counts[i];
    }
    if (gpu::lane() == 31) sort.offsets[expert + 1] = end;
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  if (threadIdx.x == 0) sort.offsets[0] = 0;
  int before = 0;
  for (int first = 0; first < sort.num_experts; first += 32) {
    const int expert = first + gpu::lane();
    const bool there = expert < sort.num_experts;
    const int end = before + gpu::warp_prefix_sum(there ? sort.offsets[expert + 1] : 0);
    if (there) sort.offsets[expert + 1] = end;
    before = __shfl_sync(kAllLanes, end, 31);
  }
}

}  // namespace

int64_t token_sort_bytes(int64_t num_slots, int64_t num_experts) {
  return 4 * (num_experts * gpu::divide_up(num_slots, chunk_slots(num_slots)) + num_slots);
}

TokenSort sort_tokens(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                      std::byte* workspace, int32_t* offsets) {
  const int64_t num_chunks = gpu::divide_up(num_slots, chunk_slots(num_slots));
  auto* places = reinterpret_cast<int*>(workspace);
  const TokenSort sort{
      .experts = experts,
      .num_slots = static_cast<int>(num_slots),
      .num_experts = static_cast<int>(num_experts),
      .chunk_slots = static_cast<int>(chunk_slots(num_slots)),
      .num_chunks = static_cast<int>(num_chunks),
      .places = places,
      .ranks = places + num_experts * num_chunks,
      .offsets = offsets,
  };
  gpu::launch(
      {.stream = stream, .grid = {static_cast<unsigned>(gpu::divide_up(num_chunks, kWarps))}, .block = {kWarps * 32}},
      rank_kernel, sort);
  const unsigned warps = num_experts < 32 ? static_cast<unsigned>(num_experts) : 32;
  gpu::launch({.stream = stream, .grid = {1}, .block = {warps * 32}}, place_kernel, sort);
  return sort;
}

}  // namespace colossus
