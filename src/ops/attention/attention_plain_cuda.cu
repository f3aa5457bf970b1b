// Attention without tensor cores, for fp32 and for heads of any size: a warp for each query and head, which takes 32
// keys at a time, a lane for each. Bound by reading k and v from the first-level cache once for each query: fit for
// tests and tiny models.
#include "ops/attention/attention_cuda.h"

namespace colossus {
namespace {

constexpr int kWarps = 4;

template <class C>
__device__ float dot(const float* a, const C* b, int dim) {
  float sum = 0;
  for (int d = 0; d < dim; ++d) sum += a[d] * gpu::float_of(b[d]);
  return sum;
}

template <class T, class C>
__global__ void plain_attention_kernel(ScoreRule rule, const T* q, const C* k, const C* v, T* o, float* lse,
                                       int64_t num_rows) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = gpu::lane(), dim = rule.dim;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;  // (B, H, T), as lse
  if (row >= num_rows) return;
  const int query = static_cast<int>(row % rule.num_queries),
            head = static_cast<int>(row / rule.num_queries % rule.num_heads);
  const int sequence = static_cast<int>(row / rule.num_queries / rule.num_heads);
  float* q_row = gpu::dynamic_shared<float>() + warp * (2 * dim + 32);
  float *o_row = q_row + dim, *weights = o_row + dim;
  const int64_t q_at = ((static_cast<int64_t>(sequence) * rule.num_queries + query) * rule.num_heads + head) * dim;
  const int num_kv_heads = rule.num_heads / rule.group;
  const int64_t key_stride = static_cast<int64_t>(num_kv_heads) * dim;
  const int64_t kv_at = sequence * key_stride * rule.num_keys + head / rule.group * dim;
  for (int d = lane; d < dim; d += 32) q_row[d] = gpu::float_of(q[q_at + d]), o_row[d] = 0;
  const SeenKeys seen = seen_keys(rule, sequence, query);
  const float outer = outer_factor(rule, seen.last);
  float largest = kNothingSeenYet, sum = 0;
  for (int first = seen.first; first <= seen.last; first += 32) {
    const int key = first + lane, count = seen.last - first + 1 < 32 ? seen.last - first + 1 : 32;
    __syncwarp();
    float score = kMaskedScore;
    if (lane < count) {
      const float x = dot(q_row, k + kv_at + key * key_stride, dim);
      score = outer * (rule.capped ? tanhf(rule.inner * x) : x);
    }
    const float before = largest;
    largest = fmaxf(largest, gpu::warp_max(score));
    const float shrink = exp2f(before - largest), weight = exp2f(score - largest);
    sum = sum * shrink + gpu::warp_sum(weight);
    weights[lane] = weight;
    __syncwarp();
    for (int d = lane; d < dim; d += 32) {
      float value = o_row[d] * shrink;
      for (int i = 0; i < count; ++i) value += weights[i] * gpu::float_of(v[kv_at + (first + i) * key_stride + d]);
      o_row[d] = value;
    }
  }
  for (int d = lane; d < dim; d += 32) o[q_at + d] = gpu::rounded<T>(o_row[d] / sum);
  if (lse && lane == 0) lse[row] = (largest + log2f(sum)) * kLn2;
}

template <class T, class C>
void launch_plain(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences, const AttentionViews& views) {
  const int64_t rows = num_sequences * rule.num_heads * rule.num_queries;
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(gpu::divide_up(rows, kWarps))},
               .block = {kWarps * 32},
               .shared_bytes = int64_t{kWarps} * (2 * rule.dim + 32) * 4},
              plain_attention_kernel<T, C>, rule, views.q->as<T>(), views.k->as<C>(), views.v->as<C>(),
              views.o->as<T>(), views.lse, rows);
}

}  // namespace

Status check_plain_attention(const AttentionAttributes& op) {
  if (op.head_dim <= 4096) return ok_status();
  return unavailable("no GPU kernel for heads of " + std::to_string(op.head_dim) + "; at most 4096");
}

void run_plain_attention(gpu::Stream stream, const ScoreRule& rule, int64_t num_sequences,
                         const AttentionViews& views) {
  const bool narrow = views.q->dtype == DType::kBF16, narrow_keys = views.k->dtype == DType::kBF16;
  if (narrow)
    narrow_keys ? launch_plain<BFloat16, BFloat16>(stream, rule, num_sequences, views)
                : launch_plain<BFloat16, float>(stream, rule, num_sequences, views);
  else
    narrow_keys ? launch_plain<float, BFloat16>(stream, rule, num_sequences, views)
                : launch_plain<float, float>(stream, rule, num_sequences, views);
}

}  // namespace colossus
