// The cross-entropy of rows of logits, and its gradient, on a GPU.
#pragma once

#include <limits>
#include <type_traits>

#include "device/cuda/row_kernels.h"

namespace colossus {

// Elements that a thread takes at once: 16 bytes of bf16.
constexpr int kLogitsAtOnce = gpu::kPackSize<BFloat16>;

// fp32 programs are there to be exact, bf16 ones to be fast.
template <class T>
__device__ __forceinline__ float exponential(float x) {
  return std::is_same_v<T, float> ? expf(x) : __expf(x);
}
template <class T>
__device__ __forceinline__ float hyperbolic_tangent(float x) {
  if constexpr (std::is_same_v<T, float>)
    return tanhf(x);
  else
    return 1 - __fdividef(2, 1 + __expf(2 * x));
}

// The cross-entropy of rows of logits of one product.
struct LogitRows {
  float* logits;  // (rows, ld), of which `vocabulary` columns are there
  int64_t ld, vocabulary;
  const int32_t* targets;  // (rows)
  float* token_loss;       // (rows)
  float softcap;
  float scale;  // of the logits
  const float* dloss;
  const int64_t* num_targets;
};

// kLogitsAtOnce logits, capped; minus infinity beyond the vocabulary.
template <class T, bool kCapped>
__device__ __forceinline__ void load_logits(const LogitRows& rows, const float* row, int64_t at,
                                            float (&logits)[kLogitsAtOnce]) {
  gpu::load_parameters(row + at, logits);
  if constexpr (kCapped) {
    const float inverse_cap = 1 / rows.softcap;
    for (int i = 0; i < kLogitsAtOnce; ++i) logits[i] = rows.softcap * hyperbolic_tangent<T>(logits[i] * inverse_cap);
  }
  if (at + kLogitsAtOnce <= rows.vocabulary) return;
  for (int i = 0; i < kLogitsAtOnce; ++i)
    if (at + i >= rows.vocabulary) logits[i] = -std::numeric_limits<float>::infinity();
}

// Where a thread keeps the logits of step `step` in shared memory: in packs that lie side by side with those of its
// neighbours.
using KeptPack = gpu::Pack<float, gpu::kPackSize<float>>;
constexpr int kKeptPacks = kLogitsAtOnce / gpu::kPackSize<float>;
__device__ __forceinline__ KeptPack& kept_pack(int64_t step, int pack) {
  return gpu::dynamic_shared<KeptPack>()[(step * kKeptPacks + pack) * blockDim.x + threadIdx.x];
}
__device__ __forceinline__ void keep(int64_t step, const float (&logits)[kLogitsAtOnce]) {
  for (int pack = 0; pack < kKeptPacks; ++pack) {
    KeptPack values;
    for (int i = 0; i < gpu::kPackSize<float>; ++i) values.elements[i] = logits[pack * gpu::kPackSize<float> + i];
    kept_pack(step, pack) = values;
  }
}
__device__ __forceinline__ void load_kept(int64_t step, float (&logits)[kLogitsAtOnce]) {
  for (int pack = 0; pack < kKeptPacks; ++pack) {
    const KeptPack values = kept_pack(step, pack);
    for (int i = 0; i < gpu::kPackSize<float>; ++i) logits[pack * gpu::kPackSize<float> + i] = values.elements[i];
  }
}

// A block for each row, up to 1024 threads of 32 bytes each at once. The sum of exponentials is taken along with the
// maximum, and the first kept_steps steps of a row stay in shared memory until their gradient is written: 4 bytes read
// and 2 written for a logit, which is the floor, for up to 56 Ki words; what is beyond is read again. An exponential in
// either pass, and a quotient and one more with a cap, which is then made once: memory is the limit.
// T is the type of h and of dlogits, which may be `logits`.
constexpr int64_t kMostThreads = 1024;
constexpr int64_t kMostKeptBytes = 224 << 10;  // of the 227 KiB that a block of sm_90 can have
template <class T, bool kCapped, bool kGrad>
__global__ void __launch_bounds__(kMostThreads, 1)
    cross_entropy_kernel(LogitRows rows, int64_t kept_steps, T* dlogits) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, first = static_cast<int64_t>(threadIdx.x) * kLogitsAtOnce;
  const int64_t stride = static_cast<int64_t>(blockDim.x) * kLogitsAtOnce;
  const float* logits = rows.logits + row * rows.ld;
  T* grads = dlogits + row * rows.ld;
  const int target = rows.targets[row];
  if (target < 0) {
    if (threadIdx.x == 0) rows.token_loss[row] = 0;
    const float zeros[kLogitsAtOnce] = {};
    for (int64_t at = first; kGrad && at < rows.vocabulary; at += stride) gpu::store_floats(zeros, grads + at);
    return;
  }
  float largest = -std::numeric_limits<float>::infinity(), sum = 0;
  int64_t step = 0;
#pragma unroll 2
  for (int64_t at = first; at < rows.vocabulary; at += stride, ++step) {
    float z[kLogitsAtOnce];
    load_logits<T, kCapped>(rows, logits, at, z);
    if (kGrad && step < kept_steps) keep(step, z);
    float top = z[0];
    for (int i = 1; i < kLogitsAtOnce; ++i) top = fmaxf(top, z[i]);
    if (top > largest) {
      sum *= exponential<T>(largest - top);
      largest = top;
    }
    for (int i = 0; i < kLogitsAtOnce; ++i) sum += exponential<T>(z[i] - largest);
  }
  // Read before the gradient may take its place. A target beyond the vocabulary makes the loss a NaN, which the
  // optimizer heeds (ops/grad_norm).
  float of_target = std::numeric_limits<float>::quiet_NaN();
  if (threadIdx.x == 0 && target < rows.vocabulary) {
    of_target = logits[target];
    if constexpr (kCapped) of_target = rows.softcap * hyperbolic_tangent<T>(of_target * (1 / rows.softcap));
  }
  const float of_row = gpu::block_max(largest, scratch);
  sum = gpu::block_sum(sum * exponential<T>(largest - of_row), scratch);
  if (threadIdx.x == 0) rows.token_loss[row] = logf(sum) + (of_row - of_target);
  if constexpr (kGrad) {
    const int64_t counted = *rows.num_targets;
    const float factor = *rows.dloss * rows.scale / static_cast<float>(counted > 1 ? counted : 1);
    const float share = factor / sum, inverse_cap = kCapped ? 1 / rows.softcap : 0;
    step = 0;
#pragma unroll 2
    for (int64_t at = first; at < rows.vocabulary; at += stride, ++step) {
      float z[kLogitsAtOnce];
      if (step < kept_steps)
        load_kept(step, z);
      else
        load_logits<T, kCapped>(rows, logits, at, z);
      for (int i = 0; i < kLogitsAtOnce; ++i) {
        const float t = z[i] * inverse_cap;
        z[i] = exponential<T>(z[i] - of_row) * share;
        if (at + i == target) z[i] -= factor;
        if constexpr (kCapped) z[i] *= 1 - t * t;
      }
      gpu::store_floats(z, grads + at);
    }
  }
}

}  // namespace colossus
