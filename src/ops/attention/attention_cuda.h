// What all attention kernels of the GPU agree on: which keys a query sees, and what score a product q . k has. And the
// plain kernels, for fp32 and for heads that the tensor cores' kernels do not take.
#pragma once

#include <algorithm>
#include <climits>
#include <cmath>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/attention/attention.h"

namespace colossus {

// Columns first .. last; first <= last.
struct SeenKeys {
  int first, last;
};

// What some queries see together (first .. last), and what each of them sees (all_first .. all_last).
struct SeenRange {
  int first = INT_MAX, last = -1, all_first = -1, all_last = INT_MAX;
  __device__ __forceinline__ void add(const SeenKeys& seen) {
    first = std::min(first, seen.first), last = std::max(last, seen.last);
    all_first = std::max(all_first, seen.first), all_last = std::min(all_last, seen.last);
  }
  __device__ __forceinline__ void add_lanes() {
    for (int bits = 16; bits > 0; bits /= 2) {
      first = std::min(first, __shfl_xor_sync(kAllLanes, first, bits));
      last = std::max(last, __shfl_xor_sync(kAllLanes, last, bits));
      all_first = std::max(all_first, __shfl_xor_sync(kAllLanes, all_first, bits));
      all_last = std::min(all_last, __shfl_xor_sync(kAllLanes, all_last, bits));
    }
  }
  // Keys begin .. end - 1.
  __device__ __forceinline__ bool sees_any(int begin, int end) const { return first < end && begin <= last; }
  __device__ __forceinline__ bool sees_all(int begin, int end) const {
    return all_first <= begin && end - 1 <= all_last;
  }
};

// The maximum of a query that has seen no key yet: below any real score, and so far above masked scores that their
// exponential is 0 against it. No infinities: their differences are NaNs.
inline constexpr float kNothingSeenYet = -1e30F, kMaskedScore = -1e38F;
inline constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;

// AttentionAttributes as kernels take them, with the operands that say where queries stand. Scores are in units of
// log 2, as exp2 wants them:
//   without a soft cap   score = outer x,               outer = scale temperature / ln 2
//   with one             score = outer tanh(inner x),   outer = softcap temperature / ln 2, inner = scale / softcap
// with x = q . k. `outer` belongs to the query.
struct ScoreRule {
  ScoreRule(const AttentionAttributes& op, const Shape& q, const Shape& k)
      : num_heads(static_cast<int>(op.num_heads)),
        group(static_cast<int>(op.num_heads / op.num_kv_heads)),
        dim(static_cast<int>(op.head_dim)),
        num_queries(static_cast<int>(q[1])),
        num_keys(static_cast<int>(k[1])),
        capped(op.softcap != 0),
        inner(static_cast<float>(capped ? op.scale / op.softcap : 0)),
        outer_scale(static_cast<float>((capped ? op.softcap : op.scale) / std::log(2.0))),
        window(op.window == 0 ? INT_MAX : static_cast<int>(std::min<int64_t>(op.window, INT_MAX))),
        temperature_len(static_cast<int>(std::min<int64_t>(op.temperature_len, INT_MAX))),
        inverse_log_len(temperature_len == 0 ? 0 : static_cast<float>(1 / std::log(temperature_len))) {
    CHECK(q[1] < INT_MAX - 4096 && k[1] < INT_MAX - 4096, "attention: sequences are shorter than 2^31");
  }

  int num_heads, group, dim;
  int num_queries, num_keys;  // of a sequence
  bool capped;
  float inner, outer_scale;
  int window, temperature_len;
  float inverse_log_len;
  const int* document_start = nullptr;  // (B, T), may be null
  const int* positions = nullptr;       // (B, T), may be null
  const int* held = nullptr;            // (B): the position of a sequence's first query, may be null
};

// Contents that break the contract lead no kernel out of k and v.
__device__ __forceinline__ SeenKeys seen_keys(const ScoreRule& rule, int sequence, int query) {
  const int64_t row = static_cast<int64_t>(sequence) * rule.num_queries + query;
  int last = rule.positions ? rule.positions[row] : query + (rule.held ? rule.held[sequence] : 0);
  last = std::max(0, std::min(last, rule.num_keys - 1));
  int first = rule.document_start ? rule.document_start[row] : 0;
  first = std::max(std::max(first, last - rule.window + 1), 0);
  return {std::min(first, last), last};
}

__device__ __forceinline__ float outer_factor(const ScoreRule& rule, int position) {
  if (rule.temperature_len == 0 || position <= rule.temperature_len) return rule.outer_scale;
  return rule.outer_scale * (logf(static_cast<float>(position)) * rule.inverse_log_len);
}

// 1 - 2 / (e^2x + 1): 1 and -1 where that overflows or vanishes, a NaN stays. Within 2 * 10^-7 of tanh.
__device__ __forceinline__ float quick_tanh(float x) {
  return 1.0F - gpu::quick_divide(2.0F, 1.0F + gpu::quick_exp2(2.0F * kLog2E * x));
}

// d score / d x, with the score in natural units, from the score in units of log 2.
__device__ __forceinline__ float score_slope(const ScoreRule& rule, float outer, float score) {
  if (!rule.capped) return outer * kLn2;
  const float tanh_x = score / outer;
  return outer * kLn2 * rule.inner * (1.0F - tanh_x * tanh_x);
}

// Any head dim and type: correct, not fast. attention_plain_cuda.cu.
struct AttentionViews {
  const View *q, *k, *v, *o;
  float* lse;  // may be null
};
Status check_plain_attention(const AttentionAttributes& op);
void run_plain_attention(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views);

// Whether there are tensor-core kernels for this: bf16 throughout, heads of at most kMostTileDim columns in
// whole packs of 16 bytes.
inline constexpr int64_t kMostTileDim = 256;
inline bool tiles_fit(const AttentionAttributes& op, DType q, DType k) {
  return q == DType::kBF16 && k == DType::kBF16 && op.head_dim <= kMostTileDim && op.head_dim % 8 == 0;
}
// Online softmax on the tensor cores; attention_forward_cuda.cu.
void run_tile_attention(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views);

}  // namespace colossus
