// The backward pass (FlashAttention-2, Dao 2023, without its atomics): first the sums of do * o and what each tile of
// queries sees, then dk and dv by key tiles (attention_key_grad_cuda.cu), then dq by query tiles
// (attention_query_grad_cuda.cu). Both compute the scores: seven products a pair instead of the five of a kernel that
// adds to dq from all key tiles at once, for bits that do not depend on who comes first and no memory of their size.
#include "ops/attention/attention_grad_cuda.h"

namespace colossus {
namespace {

// A warp for each row of do and o of one head; bound by reading both.
template <class T, int kSize>
__global__ void delta_kernel(ScoreRule rule, const T* grad, const T* o, const float* lse, float* padded_lse,
                             float* delta, int padded_queries, int64_t num_rows) {
  const int64_t row = gpu::array_index() / 32;  // (B, padded, H): neighbours in memory are neighbours in the block
  if (row >= num_rows) return;
  const int head = static_cast<int>(row % rule.num_heads),
            query = static_cast<int>(row / rule.num_heads % padded_queries);
  const int64_t sequence = row / rule.num_heads / padded_queries;
  const int64_t to = (sequence * rule.num_heads + head) * padded_queries + query;
  const bool there = query < rule.num_queries;
  float sum = 0;
  if (there) {
    const int64_t at = ((sequence * rule.num_queries + query) * rule.num_heads + head) * rule.dim;
    for (int d = gpu::lane() * kSize; d < rule.dim; d += 32 * kSize) {
      float a[kSize], b[kSize];
      gpu::load_floats(grad + at + d, a);
      gpu::load_floats(o + at + d, b);
      for (int i = 0; i < kSize; ++i) sum += a[i] * b[i];
    }
  }
  sum = gpu::warp_sum(sum);
  if (gpu::lane() != 0) return;
  delta[to] = sum;
  // Against it every score is as good as masked.
  padded_lse[to] = there ? lse[(sequence * rule.num_heads + head) * rule.num_queries + query] * kLog2E : 1e30F;
}

// A warp for each tile of queries, a lane for two of them.
__global__ void seen_kernel(ScoreRule rule, float* outer, int* first, int* last, SeenRange* tiles, int num_tiles) {
  const int tile = static_cast<int>(blockIdx.x) % num_tiles, sequence = static_cast<int>(blockIdx.x) / num_tiles;
  SeenRange all;
  for (int i = gpu::lane(); i < kGradTile; i += 32) {
    const int query = tile * kGradTile + i;
    // Rows of padding see what the last query sees: they change no tile's range.
    const SeenKeys seen = seen_keys(rule, sequence, query < rule.num_queries ? query : rule.num_queries - 1);
    const int64_t at = (static_cast<int64_t>(sequence) * num_tiles + tile) * kGradTile + i;
    outer[at] = outer_factor(rule, seen.last);
    first[at] = seen.first;
    last[at] = seen.last;
    all.add(seen);
  }
  all.add_lanes();
  if (gpu::lane() == 0) tiles[static_cast<int64_t>(sequence) * num_tiles + tile] = all;
}

// The workspace: arrays of whole tiles of 4-byte elements, so each begins at a multiple of 256 bytes.
struct Memory {
  int64_t tiles, statistics, columns;  // tiles of a sequence; elements of lse and delta; of outer, first and last
  Memory(const ScoreRule& rule, int64_t num_sequences)
      : tiles(gpu::divide_up(rule.num_queries, kGradTile)),
        statistics(num_sequences * rule.num_heads * tiles * kGradTile),
        columns(num_sequences * tiles * kGradTile) {}
  int64_t num_bytes() const {
    return 4 * (2 * statistics + 3 * columns) + columns / kGradTile * static_cast<int64_t>(sizeof(SeenRange));
  }
};

}  // namespace

template <>
Status prepare_cuda(const AttentionGrad& op, CudaPrepare& prepare) {
  const Shape& q = prepare.shapes.shape(AttentionGrad::kQ);
  const TensorType& k = prepare.shapes.input(AttentionGrad::kK);
  const ScoreRule rule(op, q, k.shape);
  prepare.workspace_bytes = Memory(rule, q[0]).num_bytes();
  if (tiles_fit(op, k.dtype, k.dtype)) prepare.workspace_bytes += tile_key_grads_bytes(rule, q[0]);
  return check_plain_attention(op);
}

template <>
void run_cuda(const AttentionGrad& op, const CudaCall& call) {
  using A = AttentionGrad;
  const View &q = call.input(A::kQ), &o = call.input(A::kO);
  ScoreRule rule(op, q.shape, call.input(A::kK).shape);
  if (call.has_input(A::kDocumentStart)) rule.document_start = call.input(A::kDocumentStart).as<int32_t>();
  if (call.has_input(A::kPositions)) rule.positions = call.input(A::kPositions).as<int32_t>();
  const int64_t num_sequences = q.shape[0];
  const Memory memory(rule, num_sequences);
  const int padded = static_cast<int>(memory.tiles) * kGradTile;
  float* lse = reinterpret_cast<float*>(call.workspace);
  float *delta = lse + memory.statistics, *outer = delta + memory.statistics;
  int *first = reinterpret_cast<int*>(outer + memory.columns), *last = first + memory.columns;
  auto* seen = reinterpret_cast<SeenRange*>(last + memory.columns);

  const auto delta_with = [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(gpu::array_launch(call.stream, memory.statistics * 32), delta_kernel<T, kSize>, rule,
                call.input(A::kDo).as<T>(), o.as<T>(), call.input(A::kLse).as<float>(), lse, delta, padded,
                memory.statistics);
  };
  if (q.dtype == DType::kF32)
    delta_with(gpu::Elements<float, 1>{});
  else if (op.head_dim % 4 == 0)
    delta_with(gpu::Elements<BFloat16, 4>{});
  else
    delta_with(gpu::Elements<BFloat16, 1>{});
  gpu::launch({.stream = call.stream, .grid = {static_cast<unsigned>(memory.tiles * num_sequences)}, .block = {32}},
              seen_kernel, rule, outer, first, last, seen, static_cast<int>(memory.tiles));

  const GradRows rows = {padded, lse, delta, outer, first, last, seen};
  const GradPointers pointers = {.grad = &call.input(A::kDo),
                                 .q = &q,
                                 .k = &call.input(A::kK),
                                 .v = &call.input(A::kV),
                                 .dq = &call.output(A::kDq),
                                 .dk = &call.output(A::kDk),
                                 .dv = &call.output(A::kDv)};
  if (tiles_fit(op, q.dtype, q.dtype)) {
    run_tile_key_grads(call.stream, rule, rows, num_sequences, pointers, call.workspace + memory.num_bytes());
    run_tile_query_grads(call.stream, rule, rows, num_sequences, pointers);
  } else {
    run_plain_attention_grad(call.stream, rule, rows, num_sequences, pointers);
  }
}

}  // namespace colossus
