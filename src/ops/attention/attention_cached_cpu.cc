// Attention against a key/value cache. Several tokens: panels, as whole sequences. One token: the cache is read once,
// row after row, in ranges of keys that threads share; each range leaves an unfinished softmax and these are joined in
// order.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_panel_cpu.h"

namespace colossus {
namespace {

constexpr int64_t kRangeKeys = 256;

void append_rows(const CpuCall& call, int from_input, int cache_input, const int32_t* held) {
  const View &from = call.input(from_input), &cache = call.input(cache_input);
  const AttentionKernels& kernels = chosen_attention_kernels();
  const int64_t length = from.shape[1], row_size = from.shape[2], capacity = cache.shape[1];
  call.pool.parallel_for(from.shape[0] * length, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / length, to = b * capacity + held[b] + row % length;
      if (from.dtype == cache.dtype) {
        const int64_t bytes = row_size * dtype_bytes(from.dtype);
        std::memcpy(cache.data + to * bytes, from.data + row * bytes, static_cast<size_t>(bytes));
        continue;
      }
      float piece[kAttentionTile];
      for (int64_t i = 0; i < row_size; i += kAttentionTile) {
        const int64_t count = std::min(kAttentionTile, row_size - i);
        load_rows(kernels, {from, row * row_size + i, 0}, count, 1, 1, piece, kAttentionTile);
        store_rows(kernels, piece, kAttentionTile, count, 1, {cache, to * row_size + i, 0});
      }
    }
  });
}

// What a range of keys makes of every head of one token.
struct Partial {
  float *o, *max, *sum;  // (num_heads, padded_dim), (num_heads), (num_heads)
  Partial(float* memory, const AttentionRule& rule)
      : o(memory), max(o + rule.num_heads * rule.padded_dim), sum(max + rule.num_heads) {}
  static int64_t num_floats(const AttentionRule& rule) { return rule.num_heads * (rule.padded_dim + 2); }
};

class Decode {
 public:
  Decode(const AttentionRule& rule, int64_t num_sequences, int64_t capacity)
      : rule_(rule),
        num_sequences_(num_sequences),
        capacity_(capacity),
        max_ranges_((capacity + kRangeKeys - 1) / kRangeKeys) {}

  int64_t workspace_bytes(int64_t num_threads) const {
    return 4 * (num_sequences_ * max_ranges_ * Partial::num_floats(rule_) + num_threads * thread_floats());
  }

  void run(const CpuCall& call, const int32_t* held) const {
    float* partials = reinterpret_cast<float*>(call.workspace);
    float* scratch = partials + num_sequences_ * max_ranges_ * Partial::num_floats(rule_);
    deal(call.pool, num_sequences_ * max_ranges_, [&](int64_t item, int part) {
      const int64_t sequence = item % num_sequences_, range = item / num_sequences_;
      const int64_t last = held[sequence];
      const int64_t begin = std::max(range * kRangeKeys, rule_.first_visible(last, 0));
      const int64_t end = std::min((range + 1) * kRangeKeys, last + 1);
      if (begin < end)
        attend(call, sequence, begin, end, partial(partials, sequence, range), scratch + part * thread_floats());
    });
    call.pool.parallel_for(num_sequences_ * rule_.num_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) join(call, held, i / rule_.num_heads, i % rule_.num_heads, partials);
    });
  }

 private:
  int64_t thread_floats() const { return rule_.num_heads * (rule_.padded_dim + kAttentionTile); }
  Partial partial(float* partials, int64_t sequence, int64_t range) const {
    return Partial(partials + (sequence * max_ranges_ + range) * Partial::num_floats(rule_), rule_);
  }

  void attend(const CpuCall& call, int64_t sequence, int64_t begin, int64_t end, Partial partial,
              float* scratch) const {
    const AttentionKernels& kernels = chosen_attention_kernels();
    const View &q = call.input(AttentionCached::kQ), &k = call.input(AttentionCached::kKCache),
               &v = call.input(AttentionCached::kVCache);
    const int64_t heads = rule_.num_heads, dim = rule_.head_dim, padded_dim = rule_.padded_dim, group = rule_.group();
    float *q_rows = scratch, *scores = scratch + heads * padded_dim;
    load_rows(kernels, {q, sequence * heads * dim, dim}, dim, heads, heads, q_rows, padded_dim);
    std::fill_n(partial.o, heads * padded_dim, 0.0F);
    std::fill_n(partial.max, heads, kAttentionNothingSeen);
    std::fill_n(partial.sum, heads, 0.0F);
    const double heat = rule_.temperature(call.input(AttentionCached::kLengths).as<int32_t>()[sequence]);
    const auto scale = static_cast<float>(rule_.softcap == 0 ? rule_.scale * heat : rule_.scale / rule_.softcap);
    const auto after_tanh = static_cast<float>(rule_.softcap * heat);
    const int64_t row_size = rule_.num_kv_heads * dim;
    for (int64_t key = begin; key < end; key += kAttentionTile) {
      const int64_t count = std::min(kAttentionTile, end - key), at = (sequence * capacity_ + key) * row_size;
      if (k.dtype == DType::kF32) {
        kernels.decode_scores_f32(q_rows, heads, group, dim, padded_dim, k.as<float>() + at, row_size, count, scores);
      } else {
        const auto* bits = reinterpret_cast<const uint16_t*>(k.as<BFloat16>() + at);
        kernels.decode_scores_bf16(q_rows, heads, group, dim, padded_dim, bits, row_size, count, scores);
      }
      kernels.decode_softmax(scores, heads, padded_dim, count, scale, after_tanh, partial.o, partial.max, partial.sum);
      if (v.dtype == DType::kF32) {
        kernels.decode_values_f32(scores, heads, group, dim, padded_dim, v.as<float>() + at, row_size, count,
                                  partial.o);
      } else {
        const auto* bits = reinterpret_cast<const uint16_t*>(v.as<BFloat16>() + at);
        kernels.decode_values_bf16(scores, heads, group, dim, padded_dim, bits, row_size, count, partial.o);
      }
    }
  }

  // Adds up the ranges of one head in the first one's memory.
  void join(const CpuCall& call, const int32_t* held, int64_t sequence, int64_t head, float* partials) const {
    const int64_t last = held[sequence];
    const int64_t first_range = rule_.first_visible(last, 0) / kRangeKeys, last_range = last / kRangeKeys;
    float largest = kAttentionNothingSeen;
    for (int64_t range = first_range; range <= last_range; ++range)
      largest = std::max(largest, partial(partials, sequence, range).max[head]);
    const Partial total = partial(partials, sequence, first_range);
    float* o = total.o + head * rule_.padded_dim;
    float sum = 0;
    for (int64_t range = first_range; range <= last_range; ++range) {
      const Partial from = partial(partials, sequence, range);
      const float weight = std::exp(from.max[head] - largest);
      sum += weight * from.sum[head];
      const float* from_o = from.o + head * rule_.padded_dim;
      if (range == first_range) {
        for (int64_t d = 0; d < rule_.head_dim; ++d) o[d] *= weight;
      } else {
        for (int64_t d = 0; d < rule_.head_dim; ++d) o[d] += weight * from_o[d];
      }
    }
    for (int64_t d = 0; d < rule_.head_dim; ++d) o[d] /= sum;
    store_rows(chosen_attention_kernels(), o, rule_.padded_dim, rule_.head_dim, 1,
               {call.output(AttentionCached::kO), (sequence * rule_.num_heads + head) * rule_.head_dim, 0});
  }

  const AttentionRule rule_;
  const int64_t num_sequences_, capacity_, max_ranges_;
};

}  // namespace

template <>
void prepare_cpu(const AttentionCached& op, CpuPrepare& prepare) {
  const AttentionRule rule(op);
  const Shape& q = prepare.shapes.shape(AttentionCached::kQ);
  const int64_t capacity = prepare.shapes.shape(AttentionCached::kKCache)[1];
  prepare.workspace_bytes = q[1] == 1 ? Decode(rule, q[0], capacity).workspace_bytes(prepare.num_threads)
                                      : prepare.num_threads * PanelAttention(rule, q[0], q[1]).thread_bytes();
}

template <>
void run_cpu(const AttentionCached& op, const CpuCall& call) {
  const View &q = call.input(AttentionCached::kQ), &k_cache = call.input(AttentionCached::kKCache);
  CHECK(q.dtype == DType::kF32 || q.dtype == DType::kBF16, "fp64 programs run on reference kernels");
  const int64_t length = q.shape[1], capacity = k_cache.shape[1];
  // Columns are compared as floats.
  CHECK(capacity < (int64_t{1} << 24), "attention_cached: caches are shorter than 2^24");
  const auto* held = call.input(AttentionCached::kLengths).as<int32_t>();
  for (int64_t b = 0; b < q.shape[0]; ++b)
    CHECK(held[b] >= 0 && held[b] + length <= capacity,
          "attention_cached.lengths: more tokens than the cache has rows");
  append_rows(call, AttentionCached::kK, AttentionCached::kKCache, held);
  append_rows(call, AttentionCached::kV, AttentionCached::kVCache, held);
  const AttentionRule rule(op);
  if (length == 1) {
    Decode(rule, q.shape[0], capacity).run(call, held);
    return;
  }
  const PanelAttention::Operands operands = {.q = q,
                                             .k = k_cache,
                                             .v = call.input(AttentionCached::kVCache),
                                             .o = call.output(AttentionCached::kO),
                                             .held = held};
  PanelAttention(rule, q.shape[0], length).run(call.pool, operands, call.workspace);
}

}  // namespace colossus
