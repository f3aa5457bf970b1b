#include "ops/router/expert_counts_cuda.h"

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/router/router.h"

namespace colossus {
namespace {

constexpr int64_t kBlockSlots = 2048;
// So many counters fit in a block's memory; more of them are seldom met twice by a block anyway.
constexpr int64_t kMostInBlock = 8192;

// Blocks count on their own first, or all slots of a popular expert would queue at one address. 4 bytes a slot.
template <class Count, bool kInBlock>
__global__ void count_kernel(const int32_t* experts, Count* counts, int64_t num_slots, int num_experts) {
  int* own = gpu::dynamic_shared<int>();
  const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  if (kInBlock)
    for (int e = first; e < num_experts; e += step) own[e] = 0;
  __syncthreads();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBlockSlots;
  const int64_t end = begin + kBlockSlots < num_slots ? begin + kBlockSlots : num_slots;
  for (int64_t slot = begin + first; slot < end; slot += step) {
    if (kInBlock)
      atomicAdd(own + experts[slot], 1);
    else
      atomicAdd(counts + experts[slot], static_cast<Count>(1));
  }
  __syncthreads();
  if (kInBlock)
    for (int e = first; e < num_experts; e += step)
      if (own[e] > 0) atomicAdd(counts + e, static_cast<Count>(own[e]));
}

template <class Count>
void count(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts, Count* counts) {
  gpu::set_zero(stream, reinterpret_cast<std::byte*>(counts), num_experts * static_cast<int64_t>(sizeof(Count)));
  const bool in_block = num_experts <= kMostInBlock;
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(gpu::divide_up(num_slots, kBlockSlots))},
               .block = {256},
               .shared_bytes = in_block ? num_experts * 4 : 0},
              in_block ? count_kernel<Count, true> : count_kernel<Count, false>, experts, counts, num_slots,
              static_cast<int>(num_experts));
}

}  // namespace

void count_experts(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                   unsigned* counts) {
  count(stream, experts, num_slots, num_experts, counts);
}
void count_experts(gpu::Stream stream, const int32_t* experts, int64_t num_slots, int64_t num_experts,
                   unsigned long long* counts) {
  count(stream, experts, num_slots, num_experts, counts);
}

template <>
Status prepare_cuda(const ExpertCounts&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const ExpertCounts& op, const CudaCall& call) {
  const View& experts = call.input(ExpertCounts::kExperts);
  count_experts(call.stream, experts.as<int32_t>(), experts.num_elements(), op.num_experts,
                reinterpret_cast<unsigned long long*>(call.output(ExpertCounts::kCounts).data));
}

}  // namespace colossus
