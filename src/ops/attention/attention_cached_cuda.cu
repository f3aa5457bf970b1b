// Attention against a cache. New rows are written first. Few queries (decoding): the cache is cut into splits, a block
// for each takes all queries of a key/value head, so that the cache is read once, and leaves an unfinished softmax;
// these are joined in order (flash decoding, Dao et al. 2023). Many queries: as whole sequences.
#include "ops/attention/attention_tile_cuda.h"

namespace colossus {
namespace {

// A thread for each pack of a new row.
template <class T, class C, int kSize>
__global__ void append_kernel(const T* k, const T* v, C* k_cache, C* v_cache, const int* held, int64_t width,
                              int64_t length, int64_t capacity, int64_t num_packs) {
  const int64_t pack = gpu::array_index();
  if (pack >= num_packs) return;
  const int64_t from = pack * kSize, row = from / width, sequence = row / length;
  const int64_t column = held[sequence] + row % length;
  // Contents that break the contract are written nowhere.
  if (column < 0 || column >= capacity) return;
  const int64_t to = (sequence * capacity + column) * width + from % width;
  float values[kSize];
  gpu::load_floats(k + from, values);
  gpu::store_floats(values, k_cache + to);
  gpu::load_floats(v + from, values);
  gpu::store_floats(values, v_cache + to);
}

void append_rows(const CudaCall& call) {
  using A = AttentionCached;
  const View &k = call.input(A::kK), &v = call.input(A::kV);
  const View &k_cache = call.input(A::kKCache), &v_cache = call.input(A::kVCache);
  const int64_t width = k.shape[2];
  const auto append = [&]<class T, class C, int kSize>(T, C, gpu::Elements<T, kSize>) {
    const int64_t num_packs = k.num_elements() / kSize;
    gpu::launch(gpu::array_launch(call.stream, num_packs), append_kernel<T, C, kSize>, k.as<T>(), v.as<T>(),
                k_cache.as<C>(), v_cache.as<C>(), call.input(A::kLengths).as<int32_t>(), width, k.shape[1],
                k_cache.shape[1], num_packs);
  };
  const bool narrow = k_cache.dtype == DType::kBF16;
  if (k.dtype == DType::kBF16) {
    if (narrow && width % 8 == 0)
      append(BFloat16{}, BFloat16{}, gpu::Elements<BFloat16, 8>{});
    else if (narrow)
      append(BFloat16{}, BFloat16{}, gpu::Elements<BFloat16, 1>{});
    else
      append(BFloat16{}, float{}, gpu::Elements<BFloat16, 1>{});
  } else if (narrow) {
    append(float{}, BFloat16{}, gpu::Elements<float, 1>{});
  } else {
    append(float{}, float{}, gpu::Elements<float, 1>{});
  }
}

// Queries of a key/value head, (token, head of the group), 16 at a time.
constexpr int kQueries = 16;
constexpr int kMostSplitQueries = 64;  // more are computed as whole sequences are

template <int kDimSize>
struct DecodeTile {
  static constexpr int kDim = kDimSize;
  static constexpr int kKeys = kDim == 64 ? 32 : 16;         // that a warp takes at once
  static constexpr int kKeyTile = kKeys * kRowStride<kDim>;  // elements
  static constexpr int64_t kStagesBytes = int64_t{kTileWarps} * 2 * 2 * kKeyTile * 2;
  static constexpr int64_t kSharedBytes =
      2 * kQueries * kRowStride<kDim> + kStagesBytes + kQueries * static_cast<int64_t>(sizeof(SoftmaxRow));
  static_assert(kStagesBytes >= int64_t{kTileWarps} * kQueries * (kDim + 2) * 4, "warps' results fit where keys were");
};

// How the work is cut, by shape alone.
struct Splits {
  int query_tiles;  // of a key/value head
  int count, keys;  // of a sequence's cache; keys of each
  Splits(const ScoreRule& rule, int64_t num_sequences) {
    constexpr int64_t kFewestKeys = 256, kWantedBlocks = 792;  // two waves of three blocks a multiprocessor
    query_tiles = static_cast<int>(gpu::divide_up(int64_t{rule.num_queries} * rule.group, kQueries));
    const int64_t blocks = std::max<int64_t>(1, num_sequences * (rule.num_heads / rule.group) * query_tiles);
    const int64_t most = gpu::divide_up(rule.num_keys, kFewestKeys);
    const int64_t wanted = std::min(most, gpu::divide_up(kWantedBlocks, blocks));
    keys = static_cast<int>(gpu::divide_up(gpu::divide_up(rule.num_keys, wanted), 64) * 64);
    count = static_cast<int>(gpu::divide_up(rule.num_keys, keys));
  }
};

// What blocks leave: of each query (B, K, T * group) and split, o (dim), not divided by the sum, the maximum, the sum.
struct Partials {
  float* at;
  int row_floats, count;
  __device__ float* of(int64_t query, int split) const { return at + (query * count + split) * row_floats; }
};
int partial_floats(const ScoreRule& rule) { return rule.dim + 2; }

// Of (sequences, key/value heads, tiles of queries; splits). Warps take every fourth piece of kKeys keys and run on
// their own, two stages each. Floor: the bytes of k and v that are seen, once for each 16 queries; 100 KB of them are
// on their way to each multiprocessor, more than bandwidth times latency asks for.
template <class Tile>
__global__ void __launch_bounds__(kTileThreads) decode_kernel(ScoreRule rule, Splits splits, const BFloat16* q,
                                                              const BFloat16* k, const BFloat16* v, Partials partials) {
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys;
  const int num_kv_heads = rule.num_heads / rule.group, num_queries = rule.num_queries * rule.group;
  const int first_query = static_cast<int>(blockIdx.x) % splits.query_tiles * kQueries;
  const int kv_head = static_cast<int>(blockIdx.x) / splits.query_tiles % num_kv_heads;
  const int sequence = static_cast<int>(blockIdx.x) / splits.query_tiles / num_kv_heads;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = gpu::lane();
  const int last_query = std::min(first_query + kQueries, num_queries) - 1;
  const int first_seen = seen_keys(rule, sequence, first_query / rule.group).first;
  const int last_seen = seen_keys(rule, sequence, last_query / rule.group).last;
  const int split = static_cast<int>(blockIdx.y), split_key = split * splits.keys;
  const int end_key = std::min(split_key + splits.keys, last_seen + 1);
  const int first_key = std::max(split_key, first_seen / kKeys * kKeys);
  if (first_key >= end_key) return;

  BFloat16* q_tile = gpu::dynamic_shared<BFloat16>();
  auto* memory = reinterpret_cast<std::byte*>(q_tile + kQueries * kRowStride<kDim>);
  BFloat16* stages = reinterpret_cast<BFloat16*>(memory) + warp * 4 * Tile::kKeyTile;
  auto* rows = reinterpret_cast<SoftmaxRow*>(memory + Tile::kStagesBytes);
  const int kv_stride = num_kv_heads * rule.dim;
  const int64_t kv_at = static_cast<int64_t>(sequence) * rule.num_keys * kv_stride + kv_head * rule.dim;
  const auto load_keys = [&](int key, int stage) {
    // Nobody may have written the rows behind.
    load_tiles<kDim, kKeys, 32>({k, v, kv_at, kv_stride, end_key, rule.dim}, key, lane,
                                stages + stage * 2 * Tile::kKeyTile);
    gpu::close_copy_group();
  };
  const int my_first_key = first_key + warp * kKeys;
  load_keys(my_first_key, 0);
  for (int at = thread; at < kQueries * kDim; at += kTileThreads) {
    const int query = first_query + at / kDim, column = at % kDim;
    const int64_t row = static_cast<int64_t>(sequence) * rule.num_queries + query / rule.group;
    const int head = kv_head * rule.group + query % rule.group;
    q_tile[at / kDim * kRowStride<kDim> + column] =
        query <= last_query && column < rule.dim ? q[(row * rule.num_heads + head) * rule.dim + column] : BFloat16{0};
  }
  if (thread < kQueries) {
    const SeenKeys seen = seen_keys(rule, sequence, std::min(first_query + thread, last_query) / rule.group);
    rows[thread] = {outer_factor(rule, seen.last), seen};
  }
  __syncthreads();
  OnlineSoftmax<1> softmax;
  softmax.begin();
  softmax.rows = rows;
  const int all_first = seen_keys(rule, sequence, last_query / rule.group).first;
  const int all_last = seen_keys(rule, sequence, first_query / rule.group).last;

  Sums<1, kDim / 8> sums;
  sums.set_zero();
  int stage = 0;
  for (int key = my_first_key; key < end_key; key += kTileWarps * kKeys, stage ^= 1) {
    if (key + kTileWarps * kKeys < end_key)
      load_keys(key + kTileWarps * kKeys, stage ^ 1);
    else
      gpu::close_copy_group();
    gpu::wait_for_copies<1>();
    __syncwarp();
    const BFloat16 *k_tile = stages + stage * 2 * Tile::kKeyTile, *v_tile = k_tile + Tile::kKeyTile;
    Sums<1, kKeys / 8> scores;
    multiply_transposed<kDim>(scores, q_tile, k_tile);
    softmax.take_in(rule, key, key < all_first || key + kKeys - 1 > all_last, scores, sums);
    add_product<kDim>(sums, scores, v_tile);
    __syncwarp();
  }
  gpu::wait_for_copies<0>();
  __syncthreads();

  // Warps in order.
  auto* results = reinterpret_cast<float*>(memory);  // (warps, 16, kDim + 2)
  constexpr int kRowFloats = kDim + 2;
  for (int r = 0; r < 2; ++r) {
    float* to = results + (warp * kQueries + r * 8 + lane / 4) * kRowFloats;
    const float sum = row_sum(softmax.sum[r]);
    if (lane % 4 == 0) to[kDim] = softmax.largest[r], to[kDim + 1] = sum;
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j)
      for (int e = 0; e < 2; ++e) to[j * 8 + lane % 4 * 2 + e] = sums.at[0][j][r * 2 + e];
  }
  __syncthreads();
  for (int query = first_query + warp; query <= last_query; query += kTileWarps) {
    const float* from = results + (query - first_query) * kRowFloats;
    float weights[kTileWarps], largest = kNothingSeenYet, sum = 0;
    for (int i = 0; i < kTileWarps; ++i) largest = fmaxf(largest, from[i * kQueries * kRowFloats + kDim]);
    for (int i = 0; i < kTileWarps; ++i) {
      weights[i] = gpu::quick_exp2(from[i * kQueries * kRowFloats + kDim] - largest);
      sum += weights[i] * from[i * kQueries * kRowFloats + kDim + 1];
    }
    float* to = partials.of((static_cast<int64_t>(sequence) * num_kv_heads + kv_head) * num_queries + query, split);
    for (int d = lane; d < rule.dim; d += 32) {
      float o = 0;
      for (int i = 0; i < kTileWarps; ++i) o += weights[i] * from[i * kQueries * kRowFloats + d];
      to[d] = o;
    }
    if (lane == 0) to[rule.dim] = largest, to[rule.dim + 1] = sum;
  }
}

// A block for each query (B, K, T * group), a thread for each column; splits in order. Bound by reading the partials.
__global__ void join_splits_kernel(ScoreRule rule, Splits splits, Partials partials, BFloat16* o) {
  const int num_kv_heads = rule.num_heads / rule.group, num_queries = rule.num_queries * rule.group;
  const int query = static_cast<int>(blockIdx.x) % num_queries, d = static_cast<int>(threadIdx.x);
  const int kv_head = static_cast<int>(blockIdx.x) / num_queries % num_kv_heads;
  const int sequence = static_cast<int>(blockIdx.x) / num_queries / num_kv_heads;
  const SeenKeys seen = seen_keys(rule, sequence, query / rule.group);
  if (d >= rule.dim) return;
  const int first = seen.first / splits.keys, last = seen.last / splits.keys;
  float largest = kNothingSeenYet, sum = 0, value = 0;
#pragma unroll 4
  for (int split = first; split <= last; ++split) largest = fmaxf(largest, partials.of(blockIdx.x, split)[rule.dim]);
#pragma unroll 4
  for (int split = first; split <= last; ++split) {
    const float* from = partials.of(blockIdx.x, split);
    const float weight = gpu::quick_exp2(from[rule.dim] - largest);
    sum += weight * from[rule.dim + 1];
    value += weight * from[d];
  }
  const int64_t row = static_cast<int64_t>(sequence) * rule.num_queries + query / rule.group;
  const int head = kv_head * rule.group + query % rule.group;
  o[(row * rule.num_heads + head) * rule.dim + d] = gpu::rounded<BFloat16>(value / sum);
}

template <int kDim>
void launch_decode(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views,
                   const Partials& partials) {
  using Tile = DecodeTile<kDim>;
  const Splits splits(rule, num_sequences);
  const int64_t heads = num_sequences * (rule.num_heads / rule.group);
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(heads * splits.query_tiles), static_cast<unsigned>(splits.count)},
               .block = {kTileThreads},
               .shared_bytes = Tile::kSharedBytes},
              decode_kernel<Tile>, rule, splits, views.q->as<BFloat16>(), views.k->as<BFloat16>(),
              views.v->as<BFloat16>(), partials);
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(heads * rule.num_queries * rule.group)},
               .block = {static_cast<unsigned>(gpu::divide_up(rule.dim, 32) * 32)}},
              join_splits_kernel, rule, splits, partials, views.o->as<BFloat16>());
}

bool is_decode(const AttentionCached& op, DType q, DType cache, int64_t length) {
  return tiles_fit(op, q, cache) && length * (op.num_heads / op.num_kv_heads) <= kMostSplitQueries;
}

}  // namespace

template <>
Status prepare_cuda(const AttentionCached& op, CudaPrepare& prepare) {
  using A = AttentionCached;
  const TensorType &q = prepare.shapes.input(A::kQ), &cache = prepare.shapes.input(A::kKCache);
  if (is_decode(op, q.dtype, cache.dtype, q.shape[1])) {
    const ScoreRule rule(op, q.shape, cache.shape);
    const int64_t queries = q.shape[0] * q.shape[1] * op.num_heads;
    prepare.workspace_bytes = queries * Splits(rule, q.shape[0]).count * partial_floats(rule) * 4;
  }
  return check_plain_attention(op);
}

template <>
void run_cuda(const AttentionCached& op, const CudaCall& call) {
  using A = AttentionCached;
  const View &q = call.input(A::kQ), &k_cache = call.input(A::kKCache);
  const int64_t num_sequences = q.shape[0];
  ScoreRule rule(op, q.shape, k_cache.shape);
  rule.held = call.input(A::kLengths).as<int32_t>();
  append_rows(call);
  const AttentionViews views = {
      .q = &q, .k = &k_cache, .v = &call.input(A::kVCache), .o = &call.output(A::kO), .lse = nullptr};
  if (!tiles_fit(op, q.dtype, k_cache.dtype)) {
    run_plain_attention(call.stream, rule, num_sequences, views);
    return;
  }
  if (!is_decode(op, q.dtype, k_cache.dtype, q.shape[1])) {
    run_tile_attention(call.stream, rule, num_sequences, views);
    return;
  }
  const Partials partials = {reinterpret_cast<float*>(call.workspace), partial_floats(rule),
                             Splits(rule, num_sequences).count};
  if (op.head_dim <= 64)
    launch_decode<64>(call.stream, rule, num_sequences, views, partials);
  else if (op.head_dim <= 128)
    launch_decode<128>(call.stream, rule, num_sequences, views, partials);
  else
    launch_decode<256>(call.stream, rule, num_sequences, views, partials);
}

}  // namespace colossus
