// dq on the tensor cores: as the forward pass, a block of four warps for each tile of queries of a head, with the tiles
// of keys they see streaming through two stages of shared memory.
#include "ops/attention/attention_grad_cuda.h"
#include "ops/attention/attention_tile_cuda.h"

namespace colossus {
namespace {

struct QueryRow {
  float lse, delta, outer;
  int first, last;
};

// Two blocks fit a multiprocessor: 104 KB and 255 registers a thread at the most.
template <int kDimSize>
struct QueryGradTile {
  static constexpr int kDim = kDimSize;
  static constexpr int kTall = kDim <= 128 ? 2 : 1;
  static constexpr int kQueries = kTileWarps * 16 * kTall;
  static constexpr int kKeys = kDim <= 128 ? 32 : 16;
  static constexpr int kQueryTile = kQueries * kRowStride<kDim>, kKeyTile = kKeys * kRowStride<kDim>;  // elements
  static constexpr int64_t kSharedBytes =
      2 * (2 * kQueryTile + 4 * kKeyTile) + 64 + kQueries * static_cast<int64_t>(sizeof(QueryRow));
};

// Of (heads, tiles of queries), late queries first. 6 D FLOPs for each pair. Floor: by the reads of shared memory, 2
// cycles for a product of 16 x 8 x 16 of scores and dP, 1 for one of dq.
template <class Tile>
__global__ void __launch_bounds__(kTileThreads)
    query_grad_kernel(ScoreRule rule, GradRows rows, const BFloat16* grad, const BFloat16* q, const BFloat16* k,
                      const BFloat16* v, BFloat16* dq) {
  constexpr int kDim = Tile::kDim, kTall = Tile::kTall, kKeys = Tile::kKeys, kRows = 16 * kTall;
  const int head = static_cast<int>(blockIdx.x) % rule.num_heads;
  const int64_t sequence = static_cast<int>(blockIdx.x) / rule.num_heads;
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * Tile::kQueries;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = gpu::lane();
  BFloat16 *q_tile = gpu::dynamic_shared<BFloat16>(), *grad_tile = q_tile + Tile::kQueryTile;
  BFloat16* stages = grad_tile + Tile::kQueryTile;
  int* ranges = reinterpret_cast<int*>(stages + 4 * Tile::kKeyTile);

  const int q_stride = rule.num_heads * rule.dim, kv_stride = q_stride / rule.group;
  const int64_t q_at = sequence * rule.num_queries * q_stride + head * rule.dim;
  const int64_t kv_at = sequence * rule.num_keys * kv_stride + head / rule.group * rule.dim;
  load_tiles<kDim, Tile::kQueries, kTileThreads>({q, grad, q_at, q_stride, rule.num_queries, rule.dim}, first_query,
                                                 thread, q_tile);

  // Registers are scarce: what is known of the queries lies in shared memory.
  auto* my_rows = reinterpret_cast<QueryRow*>(ranges + 16) + warp * kRows;
  SeenRange warp_range;
  for (int row = lane; row < kRows; row += 32) {
    // Rows beyond the last query see what that one sees; they are not stored.
    const int query = std::min(first_query + warp * kRows + row, rule.num_queries - 1);
    const int64_t statistics = (sequence * rule.num_heads + head) * rows.padded_queries + query;
    const int64_t column = sequence * rows.padded_queries + query;
    my_rows[row] = {rows.lse[statistics], rows.delta[statistics], rows.outer[column], rows.first[column],
                    rows.last[column]};
    warp_range.add({rows.first[column], rows.last[column]});
  }
  warp_range.add_lanes();
  if (lane == 0) ranges[warp] = warp_range.first, ranges[kTileWarps + warp] = warp_range.last;
  __syncthreads();
  int first_key = ranges[0], last_key = ranges[kTileWarps];
  for (int i = 1; i < kTileWarps; ++i) {
    first_key = std::min(first_key, ranges[i]);
    last_key = std::max(last_key, ranges[kTileWarps + i]);
  }
  first_key = first_key / kKeys * kKeys;

  const auto load_keys = [&](int key, int stage) {
    load_tiles<kDim, kKeys, kTileThreads>({k, v, kv_at, kv_stride, rule.num_keys, rule.dim}, key, thread,
                                          stages + stage * 2 * Tile::kKeyTile);
    gpu::close_copy_group();
  };
  load_keys(first_key, 0);
  Sums<kTall, kDim / 8> sums;
  sums.set_zero();
  const BFloat16* my_queries = q_tile + warp * kRows * kRowStride<kDim>;
  const BFloat16* my_grads = grad_tile + warp * kRows * kRowStride<kDim>;
  int stage = 0;
  for (int key = first_key; key <= last_key; key += kKeys, stage ^= 1) {
    gpu::wait_for_copies<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before
    if (key + kKeys <= last_key) load_keys(key + kKeys, stage ^ 1);
    if (!warp_range.sees_any(key, key + kKeys)) continue;
    const bool masked = !warp_range.sees_all(key, key + kKeys);
    const BFloat16 *k_tile = stages + stage * 2 * Tile::kKeyTile, *v_tile = k_tile + Tile::kKeyTile;
    Sums<kTall, kKeys / 8> scores, dx;
    multiply_transposed<kDim>(scores, my_queries, k_tile);
#pragma unroll
    for (int i = 0; i < kTall; ++i)
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const QueryRow& row = my_rows[i * 16 + e / 2 * 8 + lane / 4];
          const int at = key + j * 8 + lane % 4 * 2 + e % 2;
          const bool seen = !masked || (row.first <= at && at <= row.last);
          scores.at[i][j][e] = pair_grad(rule, scores.at[i][j][e], row.outer, row.lse, seen).slope;
        }
    multiply_transposed<kDim>(dx, my_grads, v_tile);
#pragma unroll
    for (int i = 0; i < kTall; ++i)
#pragma unroll
      for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          dx.at[i][j][e] =
              product_grad(scores.at[i][j][e], dx.at[i][j][e], my_rows[i * 16 + e / 2 * 8 + lane / 4].delta);
    add_product<kDim>(sums, dx, k_tile);
  }

  gpu::wait_for_copies<0>();  // where no key is seen nobody has waited yet
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTall; ++i) {
    BFloat16* to = q_tile + (warp * kRows + i * 16) * kRowStride<kDim>;
    put_rows(sums.at[i], 1.0F, 1.0F, to);
    __syncwarp();
    store_tile_rows<kDim>(to, dq + q_at, q_stride, first_query + warp * kRows + i * 16, rule.num_queries, rule.dim);
  }
}

template <int kDim>
void launch_query_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                        const GradPointers& pointers) {
  using Tile = QueryGradTile<kDim>;
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(num_sequences * rule.num_heads),
                        static_cast<unsigned>(gpu::divide_up(rule.num_queries, Tile::kQueries))},
               .block = {kTileThreads},
               .shared_bytes = Tile::kSharedBytes},
              query_grad_kernel<Tile>, rule, rows, pointers.grad->as<BFloat16>(), pointers.q->as<BFloat16>(),
              pointers.k->as<BFloat16>(), pointers.v->as<BFloat16>(), pointers.dq->as<BFloat16>());
}

}  // namespace

void run_tile_query_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                          const GradPointers& pointers) {
  if (rule.dim <= 64)
    launch_query_grads<64>(stream, rule, rows, num_sequences, pointers);
  else if (rule.dim <= 128)
    launch_query_grads<128>(stream, rule, rows, num_sequences, pointers);
  else
    launch_query_grads<256>(stream, rule, rows, num_sequences, pointers);
}

}  // namespace colossus
