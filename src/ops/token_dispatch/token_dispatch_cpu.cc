#include <algorithm>
#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/token_dispatch/token_dispatch.h"
#include "ops/token_dispatch/token_dispatch_simd.h"

namespace colossus {
namespace {

constexpr int64_t kBlockTokens = 256;  // sorted and copied at a time
constexpr int64_t kGrainTokens = 16;   // least work for a thread

int64_t num_blocks(int64_t num_tokens) { return (num_tokens + kBlockTokens - 1) / kBlockTokens; }

const TokenDispatchKernels& kernels() {
  return select_isa(token_dispatch_kernels<Avx512>(), token_dispatch_kernels<Avx2>());
}

struct Slots {
  const int32_t* experts;  // (N, k)
  int64_t num_tokens, top_k, num_experts;

  int64_t begin(int64_t block) const { return block * kBlockTokens * top_k; }
  int64_t end(int64_t block) const { return std::min(num_tokens, (block + 1) * kBlockTokens) * top_k; }
};

// counts (blocks, E): slots of each expert in each block.
void count_slots(const Slots& slots, ThreadPool& pool, int32_t* counts) {
  pool.parallel_for(num_blocks(slots.num_tokens), 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      int32_t* block_counts = counts + block * slots.num_experts;
      std::fill(block_counts, block_counts + slots.num_experts, 0);
      for (int64_t slot = slots.begin(block); slot < slots.end(block); ++slot) {
        CHECK(slots.experts[slot] >= 0 && slots.experts[slot] < slots.num_experts,
              "token_dispatch: an expert is not in 0..num_experts-1");
        ++block_counts[slots.experts[slot]];
      }
    }
  });
}

// Turns counts into the first row of each block and expert; fills offsets.
void place_blocks(const Slots& slots, int32_t* counts, int32_t* offsets) {
  int32_t row = 0;
  for (int64_t expert = 0; expert < slots.num_experts; ++expert) {
    offsets[expert] = row;
    for (int64_t block = 0; block < num_blocks(slots.num_tokens); ++block) {
      const int32_t count = counts[block * slots.num_experts + expert];
      counts[block * slots.num_experts + expert] = row;
      row += count;
    }
  }
  offsets[slots.num_experts] = row;
}

template <class T, class Kernels>
void combine_tokens(const CpuCall& call, const Kernels& row_kernels, int rows_at, int gates_at, int slot_row_at,
                    int addend_at) {
  const View& rows = call.input(rows_at);
  const View& slot_row = call.input(slot_row_at);
  const View& y = call.output(0);
  const int64_t width = rows.shape[1];
  const int64_t top_k = slot_row.shape.row_size();
  const float* gates = gates_at >= 0 ? call.input(gates_at).as<float>() : nullptr;
  const T* addend = call.has_input(addend_at) ? reinterpret_cast<const T*>(call.input(addend_at).data) : nullptr;
  call.pool.parallel_for(slot_row.shape.num_rows(), kGrainTokens, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      row_kernels.combine({reinterpret_cast<const T*>(rows.data), slot_row.as<int32_t>() + n * top_k, top_k, width},
                          gates ? gates + n * top_k : nullptr, addend ? addend + n * width : nullptr,
                          reinterpret_cast<T*>(y.data) + n * width);
  });
}

void combine_tokens(const CpuCall& call, int rows, int gates, int slot_row, int addend) {
  if (call.input(rows).dtype == DType::kBF16)
    return combine_tokens<uint16_t>(call, kernels().bf16, rows, gates, slot_row, addend);
  CHECK(call.input(rows).dtype == DType::kF32, "token_combine: fp64 programs run on reference kernels");
  combine_tokens<float>(call, kernels().f32, rows, gates, slot_row, addend);
}

template <class T, class Kernels>
void combine_grad(const CpuCall& call, const Kernels& row_kernels) {
  using G = TokenCombineGrad;
  const View& slot_row = call.input(G::kSlotRow);
  const int64_t width = call.input(G::kRows).shape[1];
  const int64_t top_k = slot_row.shape.row_size();
  call.pool.parallel_for(slot_row.shape.num_rows(), kGrainTokens, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n)
      row_kernels.combine_grad(
          {reinterpret_cast<const T*>(call.input(G::kRows).data), slot_row.as<int32_t>() + n * top_k, top_k, width},
          call.input(G::kGates).as<float>() + n * top_k,
          reinterpret_cast<const T*>(call.input(G::kDy).data) + n * width,
          reinterpret_cast<T*>(call.output(G::kDrows).data), call.output(G::kDgates).as<float>() + n * top_k);
  });
}

}  // namespace

template <>
void prepare_cpu(const TokenDispatch& op, CpuPrepare& prepare) {
  prepare.workspace_bytes = num_blocks(prepare.shapes.shape(TokenDispatch::kX).num_rows()) * op.num_experts * 4;
}

// A counting sort: count by block, place the blocks, then each block copies its tokens, reading each once.
template <>
void run_cpu(const TokenDispatch& op, const CpuCall& call) {
  const View& x = call.input(TokenDispatch::kX);
  const View& experts = call.input(TokenDispatch::kExperts);
  const Slots slots{experts.as<int32_t>(), x.shape.num_rows(), experts.shape.row_size(), op.num_experts};
  auto* next_row = reinterpret_cast<int32_t*>(call.workspace);  // (blocks, E)
  count_slots(slots, call.pool, next_row);
  place_blocks(slots, next_row, call.output(TokenDispatch::kOffsets).as<int32_t>());
  const int64_t row_bytes = x.shape.row_size() * dtype_bytes(x.dtype);
  std::byte* rows = call.output(TokenDispatch::kRows).data;
  auto* slot_row = call.output(TokenDispatch::kSlotRow).as<int32_t>();
  call.pool.parallel_for(num_blocks(slots.num_tokens), 1, [&](int64_t first, int64_t last) {
    for (int64_t slot = slots.begin(first); slot < slots.end(last - 1); ++slot) {
      const int64_t block = slot / (kBlockTokens * slots.top_k);
      const int64_t row = slot_row[slot] = next_row[block * slots.num_experts + slots.experts[slot]]++;
      std::memcpy(rows + row * row_bytes, x.data + slot / slots.top_k * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

template <>
void prepare_cpu(const TokenDispatchGrad&, CpuPrepare&) {}

template <>
void run_cpu(const TokenDispatchGrad&, const CpuCall& call) {
  using G = TokenDispatchGrad;
  combine_tokens(call, G::kDrows, -1, G::kSlotRow, G::kAddend);
}

template <>
void prepare_cpu(const TokenCombine&, CpuPrepare&) {}

template <>
void run_cpu(const TokenCombine&, const CpuCall& call) {
  using C = TokenCombine;
  combine_tokens(call, C::kRows, C::kGates, C::kSlotRow, C::kAddend);
}

template <>
void prepare_cpu(const TokenCombineGrad&, CpuPrepare&) {}

template <>
void run_cpu(const TokenCombineGrad&, const CpuCall& call) {
  const DType dtype = call.input(TokenCombineGrad::kRows).dtype;
  if (dtype == DType::kBF16) return combine_grad<uint16_t>(call, kernels().bf16);
  CHECK(dtype == DType::kF32, "token_combine_grad: fp64 programs run on reference kernels");
  combine_grad<float>(call, kernels().f32);
}

}  // namespace colossus
