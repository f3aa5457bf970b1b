// The backward pass without tensor cores: a warp for each query and head (dq), a warp for each key and key/value head
// (dk, dv), which takes 32 of the others at a time, a lane for each. For tests and tiny models.
#include "ops/attention/attention_grad_cuda.h"

namespace colossus {
namespace {

constexpr int kWarps = 4;

// P and dx of one query and key.
struct PairProducts {
  float weight, dx;
};
template <class T>
__device__ PairProducts pair_products(const ScoreRule& rule, const T* q, const T* k, const T* grad, const T* v,
                                      float outer, float lse, float delta) {
  float x = 0, dp = 0;
  for (int d = 0; d < rule.dim; ++d) {
    x += gpu::float_of(q[d]) * gpu::float_of(k[d]);
    dp += gpu::float_of(grad[d]) * gpu::float_of(v[d]);
  }
  const float score = outer * (rule.capped ? tanhf(rule.inner * x) : x), weight = exp2f(score - lse);
  return {weight, weight * (dp - delta) * score_slope(rule, outer, score)};
}

struct Strides {
  int64_t query, key;  // elements from one row of q, of k to the next
  __device__ explicit Strides(const ScoreRule& rule)
      : query(static_cast<int64_t>(rule.num_heads) * rule.dim),
        key(static_cast<int64_t>(rule.num_heads / rule.group) * rule.dim) {}
};

template <class T>
__global__ void plain_query_grad_kernel(ScoreRule rule, GradRows rows, const T* grad, const T* q, const T* k,
                                        const T* v, T* dq, int64_t num_rows) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = gpu::lane(), dim = rule.dim;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;  // (B, H, T)
  if (row >= num_rows) return;
  const int query = static_cast<int>(row % rule.num_queries);
  const int head = static_cast<int>(row / rule.num_queries % rule.num_heads);
  const int64_t sequence = row / rule.num_queries / rule.num_heads;
  const Strides stride(rule);
  const int64_t q_at = (sequence * rule.num_queries + query) * stride.query + head * dim;
  const int64_t kv_at = sequence * rule.num_keys * stride.key + head / rule.group * dim;
  const int64_t statistics = (sequence * rule.num_heads + head) * rows.padded_queries + query;
  const int64_t column = sequence * rows.padded_queries + query;
  float* dq_row = gpu::dynamic_shared<float>() + warp * (dim + 32);
  float* dxs = dq_row + dim;
  for (int d = lane; d < dim; d += 32) dq_row[d] = 0;
  for (int first = rows.first[column]; first <= rows.last[column]; first += 32) {
    const int count = rows.last[column] - first + 1 < 32 ? rows.last[column] - first + 1 : 32;
    const int64_t at = kv_at + (first + lane) * stride.key;
    if (lane < count)
      dxs[lane] = pair_products(rule, q + q_at, k + at, grad + q_at, v + at, rows.outer[column], rows.lse[statistics],
                                rows.delta[statistics])
                      .dx;
    __syncwarp();
    for (int d = lane; d < dim; d += 32)
      for (int i = 0; i < count; ++i) dq_row[d] += dxs[i] * gpu::float_of(k[kv_at + (first + i) * stride.key + d]);
    __syncwarp();
  }
  for (int d = lane; d < dim; d += 32) dq[q_at + d] = gpu::rounded<T>(dq_row[d]);
}

template <class T>
__global__ void plain_key_grad_kernel(ScoreRule rule, GradRows rows, const T* grad, const T* q, const T* k, const T* v,
                                      T* dk, T* dv, int64_t num_rows) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = gpu::lane(), dim = rule.dim;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;  // (B, K, S)
  if (row >= num_rows) return;
  const int key = static_cast<int>(row % rule.num_keys), num_kv_heads = rule.num_heads / rule.group;
  const int kv_head = static_cast<int>(row / rule.num_keys % num_kv_heads);
  const int64_t sequence = row / rule.num_keys / num_kv_heads;
  const Strides stride(rule);
  const int64_t at = (sequence * rule.num_keys + key) * stride.key + kv_head * dim;
  float* dk_row = gpu::dynamic_shared<float>() + warp * (2 * dim + 64);
  float *dv_row = dk_row + dim, *dxs = dv_row + dim, *weights = dxs + 32;
  for (int d = lane; d < dim; d += 32) dk_row[d] = dv_row[d] = 0;
  for (int head = kv_head * rule.group; head < (kv_head + 1) * rule.group; ++head)
    for (int first = 0; first < rule.num_queries; first += 32) {
      const int query = first + lane;
      const int64_t column = sequence * rows.padded_queries + query;
      const bool seen = query < rule.num_queries && rows.first[column] <= key && key <= rows.last[column];
      if (__ballot_sync(kAllLanes, seen) == 0) continue;
      const int64_t q_first = (sequence * rule.num_queries + first) * stride.query + head * dim;
      const int64_t q_at = q_first + lane * stride.query;
      const int64_t statistics = (sequence * rule.num_heads + head) * rows.padded_queries + query;
      PairProducts pair = {0, 0};
      if (seen)
        pair = pair_products(rule, q + q_at, k + at, grad + q_at, v + at, rows.outer[column], rows.lse[statistics],
                             rows.delta[statistics]);
      weights[lane] = pair.weight;
      dxs[lane] = pair.dx;
      const unsigned all_seen = __ballot_sync(kAllLanes, seen);
      for (int d = lane; d < dim; d += 32)
        for (int i = 0; i < 32; ++i) {
          if ((all_seen >> i & 1U) == 0) continue;
          dk_row[d] += dxs[i] * gpu::float_of(q[q_first + i * stride.query + d]);
          dv_row[d] += weights[i] * gpu::float_of(grad[q_first + i * stride.query + d]);
        }
      __syncwarp();
    }
  for (int d = lane; d < dim; d += 32) {
    dk[at + d] = gpu::rounded<T>(dk_row[d]);
    dv[at + d] = gpu::rounded<T>(dv_row[d]);
  }
}

template <class T>
void run(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
         const GradPointers& pointers) {
  const auto launch_for = [&](int64_t num_rows, int64_t floats) {
    return gpu::Launch{.stream = stream,
                       .grid = {static_cast<unsigned>(gpu::divide_up(num_rows, kWarps))},
                       .block = {kWarps * 32},
                       .shared_bytes = kWarps * floats * 4};
  };
  const T *grad = pointers.grad->as<T>(), *q = pointers.q->as<T>(), *k = pointers.k->as<T>(), *v = pointers.v->as<T>();
  const int64_t queries = num_sequences * rule.num_heads * rule.num_queries;
  gpu::launch(launch_for(queries, rule.dim + 32), plain_query_grad_kernel<T>, rule, rows, grad, q, k, v,
              pointers.dq->as<T>(), queries);
  const int64_t keys = num_sequences * (rule.num_heads / rule.group) * rule.num_keys;
  gpu::launch(launch_for(keys, 2 * rule.dim + 64), plain_key_grad_kernel<T>, rule, rows, grad, q, k, v,
              pointers.dk->as<T>(), pointers.dv->as<T>(), keys);
}

}  // namespace

void run_plain_attention_grad(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                              const GradPointers& pointers) {
  if (pointers.q->dtype == DType::kBF16)
    run<BFloat16>(stream, rule, rows, num_sequences, pointers);
  else
    run<float>(stream, rule, rows, num_sequences, pointers);
}

}  // namespace colossus
