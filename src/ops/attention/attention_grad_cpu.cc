// The backward pass: strips of queries outside, key tiles inside. One function does a range of queries against a range
// of keys of one sequence and key/value head, and both ways to cut the work use it:
//   one pass     an item is a sequence and key/value head; five matrix products a tile. Parallel over B * K.
//   two passes   dk and dv by ranges of keys, then dq by ranges of queries; seven products a tile, more items.
// dk and dv add heads and strips in order, dq adds key tiles in order, either way: the bits are the same.
#include <algorithm>

#include "device/cpu/cpu_kernel.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_strip_cpu.h"

namespace colossus {
namespace {

constexpr int64_t kRangeTiles = 4;  // of keys or queries, an item of the two passes
constexpr int64_t kRange = kRangeTiles * kAttentionTile;

struct GradItem {
  int64_t sequence, kv_head;
  int64_t first_head, num_heads;
  int64_t first_query, end_query;  // multiples of 64, but for the end
  int64_t first_key, end_key;
  bool queries_wanted, keys_wanted;
};

class GradScratch {
 public:
  GradScratch(float* memory, int64_t padded_dim, int64_t num_keys)
      : queries(memory), memory_(memory + StripQueries::kNumFloats) {
    const int64_t keys = padded_dim * round_up(num_keys, kAttentionTile), tile = padded_dim * kAttentionTile;
    for (float** array : {&k, &v, &dk, &dv}) *array = take(keys);
    for (float** array : {&q_rows, &grad_rows, &q, &grad, &dq}) *array = take(tile);
    for (float** array : {&p, &ds}) *array = take(kAttentionTile * kAttentionTile);
    for (float** array : {&lse, &delta, &ones}) *array = take(kAttentionTile);
    std::fill_n(ones, kAttentionTile, 1.0F);
  }
  static int64_t num_bytes(int64_t padded_dim, int64_t num_keys) {
    return 4 * (StripQueries::kNumFloats + 4 * padded_dim * round_up(num_keys, kAttentionTile) +
                (5 * padded_dim + 2 * kAttentionTile + 3) * kAttentionTile);
  }

  StripQueries queries;
  float *k, *v, *dk, *dv;                     // (keys, padded_dim)
  float *q_rows, *grad_rows, *q, *grad, *dq;  // as AttentionStrip
  float *p, *ds;
  float *lse, *delta, *ones;

 private:
  float* take(int64_t count) {
    float* taken = memory_;
    memory_ += count;
    return taken;
  }
  float* memory_;
};

class GradRun {
 public:
  GradRun(const AttentionGrad& op, const CpuCall& call)
      : rule_(op),
        call_(call),
        kernels_(chosen_attention_kernels()),
        num_sequences_(call.input(AttentionGrad::kQ).shape[0]),
        num_queries_(call.input(AttentionGrad::kQ).shape[1]),
        num_keys_(call.input(AttentionGrad::kK).shape[1]),
        positions_(checked_positions(call, AttentionGrad::kPositions, num_keys_)) {}

  void run() {
    const int64_t groups = num_sequences_ * rule_.num_kv_heads;
    const int64_t threads = call_.pool.num_threads();
    // The busiest thread's products in one pass against an even share of those in two.
    const bool one_pass = 5 * threads * ((groups + threads - 1) / threads) <= 7 * groups;
    if (one_pass) {
      deal(call_.pool, groups, [&](int64_t group, int part) { process(whole(group), part); });
      return;
    }
    deal(call_.pool, ranges_of(num_keys_) * groups, [&](int64_t i, int part) {  // early keys are seen most
      GradItem item = whole(i % groups);
      item.first_key = i / groups * kRange;
      item.end_key = std::min(item.first_key + kRange, num_keys_);
      item.queries_wanted = false;
      process(item, part);
    });
    const int64_t group_size = rule_.group(), ranges = ranges_of(num_queries_);
    deal(call_.pool, ranges * groups * group_size, [&](int64_t i, int part) {  // late queries see most
      GradItem item = whole(i % (groups * group_size) / group_size);
      item.first_head += i % group_size;
      item.num_heads = 1;
      item.first_query = (ranges - 1 - i / (groups * group_size)) * kRange;
      item.end_query = std::min(item.first_query + kRange, num_queries_);
      item.end_key = 1 + last_position(item);
      item.keys_wanted = false;
      process(item, part);
    });
  }

 private:
  static int64_t ranges_of(int64_t count) { return (count + kRange - 1) / kRange; }
  int64_t position(int64_t sequence, int64_t query) const {
    return positions_ ? positions_[sequence * num_queries_ + query] : query;
  }
  int64_t last_position(const GradItem& item) const {
    int64_t last = 0;
    for (int64_t query = item.first_query; query < item.end_query; ++query)
      last = std::max(last, position(item.sequence, query));
    return last;
  }
  GradItem whole(int64_t group) const {
    return {.sequence = group / rule_.num_kv_heads,
            .kv_head = group % rule_.num_kv_heads,
            .first_head = group % rule_.num_kv_heads * rule_.group(),
            .num_heads = rule_.group(),
            .first_query = 0,
            .end_query = num_queries_,
            .first_key = 0,
            .end_key = num_keys_,
            .queries_wanted = true,
            .keys_wanted = true};
  }

  // Rows of `heads` heads each: where row `row` of `head` starts.
  StridedRows rows(const View& view, int64_t heads, int64_t sequence, int64_t row, int64_t head) const {
    return {view, ((sequence * view.shape[1] + row) * heads + head) * rule_.head_dim, heads * rule_.head_dim};
  }

  void process(const GradItem& item, int part) {
    const int64_t padded_dim = rule_.padded_dim, num_keys = item.end_key - item.first_key;
    std::byte* memory = call_.workspace + part * GradScratch::num_bytes(padded_dim, num_keys_);
    GradScratch scratch(reinterpret_cast<float*>(memory), padded_dim, num_keys_);
    const auto load_keys = [&](int input, float* into) {
      load_rows(kernels_, rows(call_.input(input), rule_.num_kv_heads, item.sequence, item.first_key, item.kv_head),
                rule_.head_dim, num_keys, num_keys, into, padded_dim);
    };
    load_keys(AttentionGrad::kK, scratch.k);
    load_keys(AttentionGrad::kV, scratch.v);
    if (item.keys_wanted) {
      std::fill_n(scratch.dk, num_keys * padded_dim, 0.0F);
      std::fill_n(scratch.dv, num_keys * padded_dim, 0.0F);
    }
    for (int64_t head = item.first_head; head < item.first_head + item.num_heads; ++head)
      for (int64_t query = item.first_query; query < item.end_query; query += kAttentionTile)
        strip(item, head, query, scratch);
    if (!item.keys_wanted) return;
    const auto store_keys = [&](const float* from, int output) {
      store_rows(kernels_, from, padded_dim, rule_.head_dim, num_keys,
                 rows(call_.output(output), rule_.num_kv_heads, item.sequence, item.first_key, item.kv_head));
    };
    store_keys(scratch.dk, AttentionGrad::kDk);
    store_keys(scratch.dv, AttentionGrad::kDv);
  }

  // One strip of queries against the item's keys.
  void strip(const GradItem& item, int64_t head, int64_t query, GradScratch& scratch) {
    const int64_t count = std::min(kAttentionTile, item.end_query - query), padded_dim = rule_.padded_dim;
    const int32_t* starts =
        call_.has_input(AttentionGrad::kDocumentStart)
            ? call_.input(AttentionGrad::kDocumentStart).as<int32_t>() + item.sequence * num_queries_
            : nullptr;
    StripQueries& queries = scratch.queries;
    for (int64_t i = 0; i < count; ++i)
      queries.set(i, rule_, position(item.sequence, query + i), starts ? starts[query + i] : 0);
    queries.finish(count);
    const int64_t first_key = std::max(item.first_key, queries.first_key() / kAttentionTile * kAttentionTile);
    const int64_t end_key = std::min(item.end_key, queries.last_key() + 1);
    if (first_key >= end_key) return;

    load_strip(item, head, query, count, scratch);
    AttentionTile tile = rule_.tile(nullptr, nullptr);
    AttentionStrip strip = {};
    strip.q = scratch.q;
    strip.after_tanh = queries.after_tanh;
    strip.first = queries.first;
    strip.last = queries.last;
    strip.q_rows = scratch.q_rows;
    strip.grad_rows = scratch.grad_rows;
    strip.grad = scratch.grad;
    strip.lse = scratch.lse;
    strip.delta = scratch.delta;
    strip.score_scale = queries.score_scale;
    strip.dq = item.queries_wanted ? scratch.dq : nullptr;
    for (int64_t key = first_key; key < end_key; key += kAttentionTile) {
      if (!queries.cut(key, std::min(kAttentionTile, item.end_key - key), tile)) continue;
      const int64_t at = (key - item.first_key) * padded_dim;
      tile.k = scratch.k + at;
      tile.v = scratch.v + at;
      kernels_.grad_tile(tile, strip, scratch.p, scratch.ds, item.keys_wanted ? scratch.dk + at : nullptr,
                         item.keys_wanted ? scratch.dv + at : nullptr);
    }
    if (!item.queries_wanted) return;
    kernels_.to_rows(scratch.dq, padded_dim, scratch.ones, scratch.grad_rows);
    store_rows(kernels_, scratch.grad_rows, padded_dim, rule_.head_dim, count,
               rows(call_.output(AttentionGrad::kDq), rule_.num_heads, item.sequence, query, head));
  }

  void load_strip(const GradItem& item, int64_t head, int64_t query, int64_t count, GradScratch& scratch) {
    const auto load_queries = [&](int input, float* into) {
      load_rows(kernels_, rows(call_.input(input), rule_.num_heads, item.sequence, query, head), rule_.head_dim, count,
                kAttentionTile, into, rule_.padded_dim);
    };
    load_queries(AttentionGrad::kDo, scratch.grad_rows);
    kernels_.to_columns(scratch.grad_rows, rule_.padded_dim, scratch.ones, scratch.grad);
    // delta adds up as grad . v does in a tile: where a query sees one key only, their difference is exactly 0.
    load_queries(AttentionGrad::kO, scratch.q_rows);
    kernels_.to_columns(scratch.q_rows, rule_.padded_dim, scratch.ones, scratch.q);
    kernels_.column_dots(scratch.q, scratch.grad, rule_.head_dim, scratch.delta);
    load_queries(AttentionGrad::kQ, scratch.q_rows);
    kernels_.to_columns(scratch.q_rows, rule_.padded_dim, scratch.queries.query_scale, scratch.q);
    std::fill_n(scratch.dq, kAttentionTile * rule_.padded_dim, 0.0F);
    const float* lse =
        call_.input(AttentionGrad::kLse).as<float>() + (item.sequence * rule_.num_heads + head) * num_queries_;
    std::copy_n(lse + query, count, scratch.lse);
    std::fill(scratch.lse + count, scratch.lse + kAttentionTile, 0.0F);
  }

  const AttentionRule rule_;
  const CpuCall& call_;
  const AttentionKernels& kernels_;
  const int64_t num_sequences_, num_queries_, num_keys_;
  const int32_t* positions_;  // of the queries; null: their own numbers
};

}  // namespace

template <>
void prepare_cpu(const AttentionGrad& op, CpuPrepare& prepare) {
  const int64_t num_keys = prepare.shapes.shape(AttentionGrad::kK)[1];
  prepare.workspace_bytes = prepare.num_threads * GradScratch::num_bytes(AttentionRule(op).padded_dim, num_keys);
}

template <>
void run_cpu(const AttentionGrad& op, const CpuCall& call) {
  const View& q = call.input(AttentionGrad::kQ);
  CHECK(q.dtype == DType::kF32 || q.dtype == DType::kBF16, "fp64 programs run on reference kernels");
  // Columns are compared as floats.
  CHECK(call.input(AttentionGrad::kK).shape[1] < (int64_t{1} << 24), "attention_grad: sequences are shorter than 2^24");
  GradRun(op, call).run();
}

}  // namespace colossus
