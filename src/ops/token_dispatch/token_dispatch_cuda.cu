#include "ops/token_dispatch/token_dispatch.h"

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/token_dispatch/token_sort_cuda.h"

namespace colossus {
namespace {

// A block goes over the row of one token, `packs` packs of it at a time by each thread.
gpu::Launch token_launch(gpu::Stream stream, int64_t num_tokens, int64_t width, int64_t at_once) {
  const int64_t steps = gpu::divide_up(gpu::divide_up(width, at_once), 512);
  return {.stream = stream,
          .grid = {static_cast<unsigned>(num_tokens)},
          .block = {gpu::threads_for_row(gpu::divide_up(width, steps), at_once)}};
}

constexpr int kCopies = 4;  // loads of a thread under way

// Each token is read once and written to the rows of its slots: (1 + k) C elements a token.
template <class T, int kSize>
__global__ void dispatch_kernel(TokenSort sort, const T* x, T* rows, int32_t* slot_row, int64_t width, int top_k) {
  using Pack = gpu::Pack<T, kSize>;
  const int first_slot = static_cast<int>(blockIdx.x) * top_k;
  const T* from = x + blockIdx.x * width;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kSize;
  for (int64_t begin = static_cast<int64_t>(threadIdx.x) * kSize; begin < width; begin += step * kCopies) {
    Pack packs[kCopies];
#pragma unroll
    for (int i = 0; i < kCopies; ++i)
      if (begin + i * step < width) packs[i] = *reinterpret_cast<const Pack*>(from + begin + i * step);
    for (int j = 0; j < top_k; ++j) {
      T* to = rows + sort.row_of(first_slot + j) * width;
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        if (begin + i * step < width) gpu::store_pack(packs[i], to + begin + i * step);
    }
  }
  for (int j = static_cast<int>(threadIdx.x); j < top_k; j += static_cast<int>(blockDim.x))
    slot_row[first_slot + j] = sort.row_of(first_slot + j);
}

// y = addend + sum over slots, in order, of gate * row: (1 + k) C elements a token, C more for the addend. The rows of
// kSlots slots are under way at once.
template <class T, int kSize, int kSlots>
__global__ void combine_kernel(const T* rows, const float* gates, const int32_t* slot_row, const T* addend, T* y,
                               int64_t width, int top_k) {
  using Pack = gpu::Pack<T, kSize>;
  const int64_t begin = blockIdx.x * width, first_slot = static_cast<int64_t>(blockIdx.x) * top_k;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kSize;
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * kSize; at < width; at += step) {
    float sums[kSize] = {};
    if (addend) gpu::load_floats(addend + begin + at, sums);
    for (int first = 0; first < top_k; first += kSlots) {
      Pack packs[kSlots];
#pragma unroll
      for (int j = 0; j < kSlots; ++j)
        if (first + j < top_k)
          packs[j] = *reinterpret_cast<const Pack*>(rows + slot_row[first_slot + first + j] * width + at);
#pragma unroll
      for (int j = 0; j < kSlots; ++j) {
        if (first + j >= top_k) break;
        const float gate = gates ? gates[first_slot + first + j] : 1.0F;
        for (int i = 0; i < kSize; ++i) sums[i] += gate * gpu::float_of(packs[j].elements[i]);
      }
    }
    gpu::store_floats(sums, y + begin + at);
  }
}

template <class T>
struct CombineGradArguments {
  const T *dy, *rows;
  const float* gates;
  const int32_t* slot_row;
  T* drows;
  float* dgates;
  int64_t width;
  int top_k;
};

// drow = gate dy, dgate = dy . row: (1 + 2 k) C elements a token while k is at most kSlots.
template <class T, int kSize, int kSlots>
__global__ void combine_grad_kernel(CombineGradArguments<T> call) {
  using Pack = gpu::Pack<T, kSize>;
  __shared__ float scratch[32];
  const T* dy = call.dy + blockIdx.x * call.width;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kSize;
  for (int first = 0; first < call.top_k; first += kSlots) {
    const int64_t first_slot = static_cast<int64_t>(blockIdx.x) * call.top_k + first;
    const int num_slots = call.top_k - first < kSlots ? call.top_k - first : kSlots;
    float dots[kSlots] = {};
    for (int64_t at = static_cast<int64_t>(threadIdx.x) * kSize; at < call.width; at += step) {
      Pack packs[kSlots];
#pragma unroll
      for (int j = 0; j < kSlots; ++j)
        if (j < num_slots)
          packs[j] = *reinterpret_cast<const Pack*>(call.rows + call.slot_row[first_slot + j] * call.width + at);
      float grads[kSize];
      gpu::load_floats(dy + at, grads);
#pragma unroll
      for (int j = 0; j < kSlots; ++j) {
        if (j >= num_slots) break;
        const float gate = call.gates[first_slot + j];
        float scaled[kSize];
        for (int i = 0; i < kSize; ++i) {
          dots[j] += grads[i] * gpu::float_of(packs[j].elements[i]);
          scaled[i] = gate * grads[i];
        }
        gpu::store_floats(scaled, call.drows + call.slot_row[first_slot + j] * call.width + at);
      }
    }
#pragma unroll
    for (int j = 0; j < kSlots; ++j) {
      if (j >= num_slots) break;
      const float dot = gpu::block_sum(dots[j], scratch);
      if (threadIdx.x == 0) call.dgates[first_slot + j] = dot;
    }
  }
}

template <int kSlots>
struct SlotsAtOnce {};
// Calls f(SlotsAtOnce<kSlots>) with how many slots of a token to take at once.
template <class F>
void with_slots(int64_t top_k, F&& f) {
  if (top_k == 1)
    f(SlotsAtOnce<1>{});
  else if (top_k == 2)
    f(SlotsAtOnce<2>{});
  else
    f(SlotsAtOnce<4>{});
}

// gates, addend below 0: there are none.
void combine(const CudaCall& call, int rows_at, int gates_at, int slot_row_at, int addend_at) {
  const View &rows = call.input(rows_at), &slot_row = call.input(slot_row_at), &y = call.output(0);
  const int64_t width = rows.shape[1], top_k = slot_row.shape.row_size();
  gpu::with_elements(rows.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    with_slots(top_k, [&]<int kSlots>(SlotsAtOnce<kSlots>) {
      gpu::launch(token_launch(call.stream, slot_row.shape.num_rows(), width, kSize), combine_kernel<T, kSize, kSlots>,
                  rows.as<T>(), gates_at < 0 ? nullptr : call.input(gates_at).as<float>(), slot_row.as<int32_t>(),
                  call.has_input(addend_at) ? call.input(addend_at).as<T>() : nullptr, y.as<T>(), width,
                  static_cast<int>(top_k));
    });
  });
}

}  // namespace

template <>
Status prepare_cuda(const TokenDispatch& op, CudaPrepare& prepare) {
  const int64_t num_slots = prepare.shapes.shape(TokenDispatch::kExperts).num_elements();
  prepare.workspace_bytes = token_sort_bytes(num_slots, op.num_experts);
  return ok_status();
}

template <>
void run_cuda(const TokenDispatch& op, const CudaCall& call) {
  using D = TokenDispatch;
  const View &x = call.input(D::kX), &experts = call.input(D::kExperts);
  const TokenSort sort = sort_tokens(call.stream, experts.as<int32_t>(), experts.num_elements(), op.num_experts,
                                     call.workspace, call.output(D::kOffsets).as<int32_t>());
  const int64_t width = x.shape.row_size();
  gpu::with_elements(x.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(token_launch(call.stream, x.shape.num_rows(), width, kSize * kCopies), dispatch_kernel<T, kSize>, sort,
                x.as<T>(), call.output(D::kRows).as<T>(), call.output(D::kSlotRow).as<int32_t>(), width,
                static_cast<int>(experts.shape.row_size()));
  });
}

template <>
Status prepare_cuda(const TokenDispatchGrad&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const TokenDispatchGrad&, const CudaCall& call) {
  using G = TokenDispatchGrad;
  combine(call, G::kDrows, -1, G::kSlotRow, G::kAddend);
}

template <>
Status prepare_cuda(const TokenCombine&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const TokenCombine&, const CudaCall& call) {
  using C = TokenCombine;
  combine(call, C::kRows, C::kGates, C::kSlotRow, C::kAddend);
}

template <>
Status prepare_cuda(const TokenCombineGrad&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const TokenCombineGrad&, const CudaCall& call) {
  using G = TokenCombineGrad;
  const View &rows = call.input(G::kRows), &slot_row = call.input(G::kSlotRow);
  const int64_t width = rows.shape[1], top_k = slot_row.shape.row_size();
  gpu::with_elements(rows.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    const CombineGradArguments<T> arguments{
        .dy = call.input(G::kDy).as<T>(),
        .rows = rows.as<T>(),
        .gates = call.input(G::kGates).as<float>(),
        .slot_row = slot_row.as<int32_t>(),
        .drows = call.output(G::kDrows).as<T>(),
        .dgates = call.output(G::kDgates).as<float>(),
        .width = width,
        .top_k = static_cast<int>(top_k),
    };
    with_slots(top_k, [&]<int kSlots>(SlotsAtOnce<kSlots>) {
      gpu::launch(token_launch(call.stream, slot_row.shape.num_rows(), width, kSize),
                  combine_grad_kernel<T, kSize, kSlots>, arguments);
    });
  });
}

}  // namespace colossus
