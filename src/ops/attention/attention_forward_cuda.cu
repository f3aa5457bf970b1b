// FlashAttention-2 (Dao 2023) on mma.sync: a block of four warps for each tile of queries of a head, 16 or 32 queries a
// warp, whose o and statistics stay in registers; tiles of keys stream through two stages of shared memory.
#include "ops/attention/attention_tile_cuda.h"

namespace colossus {
namespace {

// Two blocks fit a multiprocessor: 106 KB and 255 registers a thread at the most.
template <int kDimSize>
struct ForwardTile {
  static constexpr int kDim = kDimSize;
  static constexpr int kTall = kDim <= 128 ? 2 : 1;  // o takes kTall * kDim / 2 registers
  static constexpr int kQueries = kTileWarps * 16 * kTall;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  static constexpr int kKeyTile = kKeys * kRowStride<kDim>;  // elements
  static constexpr int64_t kSharedBytes =
      2 * (kQueries * kRowStride<kDim> + 4 * kKeyTile) + 64 + kQueries * static_cast<int64_t>(sizeof(SoftmaxRow));
};

// Of (heads, tiles of queries): late queries see most and go first, neighbouring blocks share k and v, so that grouped
// heads find them in the second-level cache. 4 D FLOPs for each pair; keys of whole tiles nobody sees are not loaded.
// Floor: half of what wgmma reaches, by the reads of shared memory: 1.5 (scores) and 1 (values) cycles for a product
// of 16 x 8 x 16 that takes a tensor core's multiprocessor one at its best.
template <class Tile>
__global__ void __launch_bounds__(kTileThreads)
    attention_kernel(ScoreRule rule, const BFloat16* q, const BFloat16* k, const BFloat16* v, BFloat16* o, float* lse) {
  constexpr int kDim = Tile::kDim, kTall = Tile::kTall, kKeys = Tile::kKeys, kRows = 16 * kTall;
  const int64_t sequence = static_cast<int>(blockIdx.x) / rule.num_heads;
  const int head = static_cast<int>(blockIdx.x) % rule.num_heads;
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * Tile::kQueries;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = gpu::lane();
  BFloat16* q_tile = gpu::dynamic_shared<BFloat16>();
  BFloat16* stages = q_tile + Tile::kQueries * kRowStride<kDim>;  // k and v of one tile, k and v of the next
  int* ranges = reinterpret_cast<int*>(stages + 4 * Tile::kKeyTile);
  auto* my_rows = reinterpret_cast<SoftmaxRow*>(ranges + 16) + warp * kRows;

  const int q_stride = rule.num_heads * rule.dim, kv_stride = q_stride / rule.group;
  const int64_t q_at = sequence * rule.num_queries * q_stride + head * rule.dim;
  const int64_t kv_at = sequence * rule.num_keys * kv_stride + head / rule.group * rule.dim;
  load_tiles<kDim, Tile::kQueries, kTileThreads>({q, nullptr, q_at, q_stride, rule.num_queries, rule.dim}, first_query,
                                                 thread, q_tile);

  OnlineSoftmax<kTall> softmax;
  softmax.begin();
  softmax.rows = my_rows;
  SeenRange warp_range;
  for (int row = lane; row < kRows; row += 32) {
    // Rows beyond the last query see what that one sees; they are not stored.
    const int query = std::min(first_query + warp * kRows + row, rule.num_queries - 1);
    const SeenKeys seen = seen_keys(rule, static_cast<int>(sequence), query);
    my_rows[row] = {outer_factor(rule, seen.last), seen};
    warp_range.add(seen);
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
    // Rows behind the last key that is seen may be memory that nobody has written: a cache's.
    load_tiles<kDim, kKeys, kTileThreads>({k, v, kv_at, kv_stride, last_key + 1, rule.dim}, key, thread,
                                          stages + stage * 2 * Tile::kKeyTile);
    gpu::close_copy_group();
  };
  load_keys(first_key, 0);
  Sums<kTall, kDim / 8> sums;
  sums.set_zero();
  const BFloat16* my_queries = q_tile + warp * kRows * kRowStride<kDim>;
  int stage = 0;
  for (int key = first_key; key <= last_key; key += kKeys, stage ^= 1) {
    gpu::wait_for_copies<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before
    if (key + kKeys <= last_key) load_keys(key + kKeys, stage ^ 1);
    if (!warp_range.sees_any(key, key + kKeys)) continue;
    const BFloat16 *k_tile = stages + stage * 2 * Tile::kKeyTile, *v_tile = k_tile + Tile::kKeyTile;
    Sums<kTall, kKeys / 8> scores;
    multiply_transposed<kDim>(scores, my_queries, k_tile);
    softmax.take_in(rule, key, !warp_range.sees_all(key, key + kKeys), scores, sums);
    add_product<kDim>(sums, scores, v_tile);
  }

  // Each warp's queries are its own: it puts its rows of o in their place.
  gpu::wait_for_copies<0>();  // where no key is seen nobody has waited yet
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kTall; ++i) {
    const float upper = row_sum(softmax.sum[2 * i]), lower = row_sum(softmax.sum[2 * i + 1]);
    const int first = first_query + warp * kRows + i * 16;
    BFloat16* rows = q_tile + (warp * kRows + i * 16) * kRowStride<kDim>;
    put_rows(sums.at[i], 1.0F / upper, 1.0F / lower, rows);
    __syncwarp();
    store_tile_rows<kDim>(rows, o + q_at, q_stride, first, rule.num_queries, rule.dim);
    if (lse && lane % 4 == 0) {
      float* to = lse + (sequence * rule.num_heads + head) * rule.num_queries;
      const int query = first + lane / 4;
      if (query < rule.num_queries) to[query] = (softmax.largest[2 * i] + log2f(upper)) * kLn2;
      if (query + 8 < rule.num_queries) to[query + 8] = (softmax.largest[2 * i + 1] + log2f(lower)) * kLn2;
    }
  }
}

template <int kDim>
void launch_tiles(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views) {
  using Tile = ForwardTile<kDim>;
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(num_sequences * rule.num_heads),
                        static_cast<unsigned>(gpu::divide_up(rule.num_queries, Tile::kQueries))},
               .block = {kTileThreads},
               .shared_bytes = Tile::kSharedBytes},
              attention_kernel<Tile>, rule, views.q->as<BFloat16>(), views.k->as<BFloat16>(), views.v->as<BFloat16>(),
              views.o->as<BFloat16>(), views.lse);
}

}  // namespace

void run_tile_attention(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views) {
  if (rule.dim <= 64)
    launch_tiles<64>(stream, rule, num_sequences, views);
  else if (rule.dim <= 128)
    launch_tiles<128>(stream, rule, num_sequences, views);
  else
    launch_tiles<256>(stream, rule, num_sequences, views);
}

template <>
Status prepare_cuda(const Attention& op, CudaPrepare&) {
  return check_plain_attention(op);
}

template <>
void run_cuda(const Attention& op, const CudaCall& call) {
  using A = Attention;
  const View &q = call.input(A::kQ), &k = call.input(A::kK);
  ScoreRule rule(op, q.shape, k.shape);
  if (call.has_input(A::kDocumentStart)) rule.document_start = call.input(A::kDocumentStart).as<int32_t>();
  if (call.has_input(A::kPositions)) rule.positions = call.input(A::kPositions).as<int32_t>();
  const AttentionViews views = {.q = &q,
                                .k = &k,
                                .v = &call.input(A::kV),
                                .o = &call.output(A::kO),
                                .lse = call.has_output(A::kLse) ? call.output(A::kLse).as<float>() : nullptr};
  if (tiles_fit(op, q.dtype, k.dtype))
    run_tile_attention(call.stream, rule, q.shape[0], views);
  else
    run_plain_attention(call.stream, rule, q.shape[0], views);
}

}  // namespace colossus
