// dk and dv on the tensor cores: a block of four warps for each tile of 64 keys of a key/value head, 16 keys a warp,
// whose dk and dv stay in registers; the tiles of queries that see them stream through two stages of shared memory, of
// one query head after the other. Scores are computed as (keys, queries), so that what a warp holds of P and dS is the
// left operand of its next product as it is.
#include "ops/attention/attention_grad_cuda.h"
#include "ops/attention/attention_tile_cuda.h"

namespace colossus {
namespace {

constexpr int kKeys = kTileWarps * 16;
constexpr int kChunk = 32;  // queries that are computed at once

// What the kernel has of each query of a tile, in shared memory.
struct QueryColumns {
  float lse[kGradTile], delta[kGradTile], outer[kGradTile];
  int first[kGradTile], last[kGradTile];
};

enum class Wanted { kBoth, kDk, kDv };

template <int kDim>
struct KeyGradTile {
  static constexpr int64_t kRowTile = kGradTile * kRowStride<kDim>;  // elements; as many rows of keys as of queries
  static constexpr int64_t kStageBytes = 2 * 2 * kRowTile + static_cast<int64_t>(sizeof(QueryColumns));
  static constexpr int64_t kSharedBytes = 2 * 2 * kRowTile + 2 * kStageBytes;
};
static_assert(kKeys == kGradTile);

// Goes over the heads of a range, and of each over the tiles of queries that see some of the keys. All lanes look at 32
// tiles at once.
class TileWalk {
 public:
  __device__ TileWalk(const SeenRange* seen, int num_tiles, int first_key, int end_key, int first_head, int end_head)
      : head(first_head),
        seen_(seen),
        num_tiles_(num_tiles),
        first_key_(first_key),
        end_key_(end_key),
        end_head_(end_head) {}

  // False when there is none left.
  __device__ bool next() {
    while (left_ == 0) {
      base_ += 32;
      if (base_ >= num_tiles_) {
        if (++head >= end_head_) return false;
        base_ = 0;
      }
      const int at = base_ + gpu::lane();
      left_ = __ballot_sync(kAllLanes, at < num_tiles_ && seen_[at].sees_any(first_key_, end_key_));
    }
    const unsigned lowest = left_ & (~left_ + 1);
    left_ ^= lowest;
    tile = base_ + __popc(lowest - 1);
    masked = !seen_[tile].sees_all(first_key_, end_key_);
    return true;
  }

  int head, tile = 0;
  bool masked = false;  // not every query of the tile sees every key

 private:
  const SeenRange* seen_;
  const int num_tiles_, first_key_, end_key_, end_head_;
  int base_ = -32;
  unsigned left_ = 0;
};

// 64 elements of 4 bytes at multiples of 256 bytes.
__device__ __forceinline__ void load_column(const void* from, void* to, int at) {
  gpu::copy_async_16(static_cast<float*>(to) + at * 4, static_cast<const float*>(from) + at * 4);
}

struct KeyGradOperands {
  const BFloat16 *grad, *q, *k, *v;
  BFloat16 *dk, *dv;
  float* partials;  // where the heads of a group are cut into splits: (splits, B, S, K * D) of dk, then of dv
  int splits;
};

// Rows of sums to their place, or to their split's.
template <int kDim>
__device__ __forceinline__ void store_key_rows(const Sums<1, kDim / 8>& sums, const ScoreRule& rule, int first_row,
                                               int64_t head_at, int stride, BFloat16* scratch, BFloat16* to,
                                               float* partial) {
  const int lane = gpu::lane();
  if (!partial) {
    put_rows(sums.at[0], 1.0F, 1.0F, scratch);
    __syncwarp();
    store_tile_rows<kDim>(scratch, to + head_at, stride, first_row, rule.num_keys, rule.dim);
    return;
  }
#pragma unroll
  for (int j = 0; j < kDim / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = first_row + lane / 4 + e / 2 * 8, column = j * 8 + lane % 4 * 2 + e % 2;
      if (row < rule.num_keys && column < rule.dim)
        partial[head_at + static_cast<int64_t>(row) * stride + column] = sums.at[0][j][e];
    }
}

// Of (splits of heads, key/value heads, sequences; tiles of keys): early keys are seen most and go first. 8 D FLOPs for
// each pair. Floor: by the reads of shared memory, 3 cycles for a product of 16 x 8 x 16 of scores and dP, whose left
// operands are read for every 32 queries, 2 for one of dk and dv: 40% of what the tensor cores do.
template <int kDim, Wanted kWanted>
__global__ void __launch_bounds__(kTileThreads) key_grad_kernel(ScoreRule rule, GradRows rows, KeyGradOperands x) {
  using Tile = KeyGradTile<kDim>;
  constexpr bool kWantsDk = kWanted != Wanted::kDv, kWantsDv = kWanted != Wanted::kDk;
  const int num_kv_heads = rule.num_heads / rule.group, heads_at_once = rule.group / x.splits;
  const int split = static_cast<int>(blockIdx.x) % x.splits;
  const int kv_head = static_cast<int>(blockIdx.x) / x.splits % num_kv_heads;
  const int64_t sequence = static_cast<int>(blockIdx.x) / x.splits / num_kv_heads;
  const int first_key = static_cast<int>(blockIdx.y) * kKeys;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = gpu::lane();
  BFloat16 *k_tile = gpu::dynamic_shared<BFloat16>(), *v_tile = k_tile + Tile::kRowTile;
  auto* stages = reinterpret_cast<std::byte*>(v_tile + Tile::kRowTile);

  const int q_stride = rule.num_heads * rule.dim, kv_stride = q_stride / rule.group;
  const int64_t q_at = sequence * rule.num_queries * q_stride;
  const int64_t kv_at = sequence * rule.num_keys * kv_stride + kv_head * rule.dim;
  load_tiles<kDim, kKeys, kTileThreads>({x.k, kWantsDk ? x.v : nullptr, kv_at, kv_stride, rule.num_keys, rule.dim},
                                        first_key, thread, k_tile);

  const auto load_queries = [&](int head, int tile, int stage) {
    auto* q_tile = reinterpret_cast<BFloat16*>(stages + stage * Tile::kStageBytes);
    auto* columns = reinterpret_cast<QueryColumns*>(q_tile + 2 * Tile::kRowTile);
    const int first = tile * kGradTile;
    load_tiles<kDim, kGradTile, kTileThreads>(
        {x.q, x.grad, q_at + head * rule.dim, q_stride, rule.num_queries, rule.dim}, first, thread, q_tile);
    const int64_t statistics = (sequence * rule.num_heads + head) * rows.padded_queries + first;
    const int64_t column = sequence * rows.padded_queries + first;
    if (lane < 16) {
      if (warp == 0) load_column(rows.lse + statistics, columns->lse, lane);
      if (warp == 1) load_column(rows.delta + statistics, columns->delta, lane);
      if (warp == 2) load_column(rows.outer + column, columns->outer, lane);
      if (warp == 3) load_column(rows.first + column, columns->first, lane);
    } else if (warp == 0) {
      load_column(rows.last + column, columns->last, lane - 16);
    }
    gpu::close_copy_group();
  };

  const int num_tiles = rows.padded_queries / kGradTile, first_head = kv_head * rule.group + split * heads_at_once;
  TileWalk walk(rows.seen + sequence * num_tiles, num_tiles, first_key, first_key + kKeys, first_head,
                first_head + heads_at_once);
  Sums<1, kDim / 8> dk, dv;
  if (kWantsDk) dk.set_zero();
  if (kWantsDv) dv.set_zero();
  const BFloat16 *my_k = k_tile + warp * 16 * kRowStride<kDim>, *my_v = v_tile + warp * 16 * kRowStride<kDim>;
  bool there = walk.next();
  if (there) load_queries(walk.head, walk.tile, 0);
  for (int stage = 0; there; stage ^= 1) {
    const bool masked = walk.masked;
    gpu::wait_for_copies<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before
    there = walk.next();
    if (there) load_queries(walk.head, walk.tile, stage ^ 1);
    const auto* q_tile = reinterpret_cast<const BFloat16*>(stages + stage * Tile::kStageBytes);
    const auto* columns = reinterpret_cast<const QueryColumns*>(q_tile + 2 * Tile::kRowTile);
#pragma unroll 1
    for (int chunk = 0; chunk < kGradTile; chunk += kChunk) {
      const BFloat16 *q_rows = q_tile + chunk * kRowStride<kDim>, *grad_rows = q_rows + Tile::kRowTile;
      Sums<1, kChunk / 8> scores, weights;
      multiply_transposed<kDim>(scores, my_k, q_rows);
      // P, and in the place of the scores what dP - delta is multiplied by.
#pragma unroll
      for (int j = 0; j < kChunk / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int column = chunk + j * 8 + lane % 4 * 2 + e % 2, key = first_key + warp * 16 + lane / 4 + e / 2 * 8;
          const bool seen = !masked || (columns->first[column] <= key && key <= columns->last[column]);
          const PairGrad pair = pair_grad(rule, scores.at[0][j][e], columns->outer[column], columns->lse[column], seen);
          weights.at[0][j][e] = pair.weight;
          scores.at[0][j][e] = pair.slope;
        }
      if (kWantsDv) add_product<kDim>(dv, weights, grad_rows);
      if (!kWantsDk) continue;
      Sums<1, kChunk / 8> dx;
      multiply_transposed<kDim>(dx, my_v, grad_rows);
#pragma unroll
      for (int j = 0; j < kChunk / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int column = chunk + j * 8 + lane % 4 * 2 + e % 2;
          dx.at[0][j][e] = product_grad(scores.at[0][j][e], dx.at[0][j][e], columns->delta[column]);
        }
      add_product<kDim>(dk, dx, q_rows);
    }
  }

  // Of keys that nobody sees, the group of k and v is still open.
  gpu::close_copy_group();
  gpu::wait_for_copies<0>();
  __syncthreads();
  const int64_t split_size = static_cast<int64_t>(gridDim.x) / x.splits * rule.num_keys * rule.dim;
  const int first_row = first_key + warp * 16;
  float* partial = x.partials ? x.partials + split * split_size : nullptr;
  if (kWantsDk)
    store_key_rows<kDim>(dk, rule, first_row, kv_at, kv_stride, k_tile + warp * 16 * kRowStride<kDim>, x.dk, partial);
  if (kWantsDv)
    store_key_rows<kDim>(dv, rule, first_row, kv_at, kv_stride, v_tile + warp * 16 * kRowStride<kDim>, x.dv,
                         partial ? partial + x.splits * split_size : nullptr);
}

// A thread for each element of dk (blockIdx.y 0) or dv: splits in order.
__global__ void add_splits_kernel(const float* partials, int splits, BFloat16* dk, BFloat16* dv, int64_t num_elements) {
  const int64_t at = gpu::array_index();
  if (at >= num_elements) return;
  const float* from = partials + blockIdx.y * splits * num_elements + at;
  float sum = 0;
  for (int i = 0; i < splits; ++i) sum += from[i * num_elements];
  (blockIdx.y == 0 ? dk : dv)[at] = gpu::rounded<BFloat16>(sum);
}

template <int kDim, Wanted kWanted>
void launch_key_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                      const KeyGradOperands& operands) {
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(num_sequences * (rule.num_heads / rule.group) * operands.splits),
                        static_cast<unsigned>(gpu::divide_up(rule.num_keys, kKeys))},
               .block = {kTileThreads},
               .shared_bytes = KeyGradTile<kDim>::kSharedBytes},
              key_grad_kernel<kDim, kWanted>, rule, rows, operands);
}

// Few key/value heads and keys leave multiprocessors idle: then a block takes only some of the heads of its group. As
// many splits as make two blocks for each of 132 multiprocessors; a number that divides the group.
int splits_of(const ScoreRule& rule, int64_t num_sequences) {
  const int64_t blocks = num_sequences * (rule.num_heads / rule.group) * gpu::divide_up(rule.num_keys, kKeys);
  for (int splits = 1; splits < rule.group; ++splits)
    if (rule.group % splits == 0 && blocks * splits >= 264) return splits;
  return rule.group;
}

}  // namespace

int64_t tile_key_grads_bytes(const ScoreRule& rule, int64_t num_sequences) {
  const int splits = splits_of(rule, num_sequences);
  const int64_t elements = num_sequences * rule.num_keys * (rule.num_heads / rule.group) * rule.dim;
  return splits == 1 ? 0 : 2 * splits * elements * 4;
}

void run_tile_key_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                        const GradPointers& pointers, std::byte* workspace) {
  KeyGradOperands operands = {.grad = pointers.grad->as<BFloat16>(),
                              .q = pointers.q->as<BFloat16>(),
                              .k = pointers.k->as<BFloat16>(),
                              .v = pointers.v->as<BFloat16>(),
                              .dk = pointers.dk->as<BFloat16>(),
                              .dv = pointers.dv->as<BFloat16>(),
                              .partials = nullptr,
                              .splits = splits_of(rule, num_sequences)};
  if (operands.splits > 1) operands.partials = reinterpret_cast<float*>(workspace);
  if (rule.dim <= 64) {
    launch_key_grads<64, Wanted::kBoth>(stream, rule, rows, num_sequences, operands);
  } else if (rule.dim <= 128) {
    launch_key_grads<128, Wanted::kBoth>(stream, rule, rows, num_sequences, operands);
  } else {  // registers hold one of them: scores are computed twice, 10 D FLOPs instead of 8
    launch_key_grads<256, Wanted::kDk>(stream, rule, rows, num_sequences, operands);
    launch_key_grads<256, Wanted::kDv>(stream, rule, rows, num_sequences, operands);
  }
  if (operands.splits == 1) return;
  const int64_t num_elements = pointers.dk->num_elements();
  gpu::Launch adding = gpu::array_launch(stream, num_elements);
  adding.grid.y = 2;
  gpu::launch(adding, add_splits_kernel, operands.partials, operands.splits, operands.dk, operands.dv, num_elements);
}

}  // namespace colossus
