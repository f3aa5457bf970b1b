// What the router's kernels share: a token's logits lie spread over a group of lanes of one warp, a power of two of
// them and no more than there are experts, so that a warp reads tokens that follow each other at once.
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus::gpu {

// A block goes over the tokens blockIdx.x * kRouterTokens .. of N, a group of lanes for each.
inline constexpr int kRouterThreads = 256;
inline constexpr int kRouterTokens = 64;

struct RouterTokens {
  int64_t num_tokens;
  int num_experts;
  int lanes;  // of a group
  float softcap;

  __device__ __forceinline__ int own_lane() const { return lane() & (lanes - 1); }
  // f(token, its number in the block, whether there is such a token): all lanes of a warp stay together, those without
  // a token read the last one again and must write nothing.
  template <class F>
  __device__ __forceinline__ void for_tokens(F&& f) const {
    const int groups = kRouterThreads / lanes;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * kRouterTokens;
    for (int at = static_cast<int>(threadIdx.x) / lanes; at - at % (32 / lanes) < kRouterTokens; at += groups) {
      const int64_t token = first + at;
      const bool there = at < kRouterTokens && token < num_tokens;
      f(there ? token : num_tokens - 1, at, there);
    }
  }
};

inline RouterTokens router_tokens(int64_t num_tokens, int64_t num_experts, double softcap) {
  int lanes = 1;
  while (lanes < 32 && lanes < num_experts) lanes *= 2;
  return {num_tokens, static_cast<int>(num_experts), lanes, static_cast<float>(softcap)};
}

inline Launch router_launch(Stream stream, const RouterTokens& tokens) {
  return {.stream = stream,
          .grid = {static_cast<unsigned>(divide_up(tokens.num_tokens, kRouterTokens))},
          .block = {kRouterThreads}};
}

template <int kHeld>
struct HeldLogits {};
// Calls f(HeldLogits<kHeld>) with as many logits as a lane keeps in registers; 0 where they are too many, and read
// anew.
template <class F>
void with_held_logits(int64_t num_experts, F&& f) {
  if (num_experts <= 32)
    f(HeldLogits<1>{});
  else if (num_experts <= 128)
    f(HeldLogits<4>{});
  else if (num_experts <= 512)
    f(HeldLogits<16>{});
  else
    f(HeldLogits<0>{});
}

template <class T>
__device__ __forceinline__ T group_sum(T x, int lanes) {
  for (int bits = lanes / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}

// In thread 0; the order is fixed. `scratch` is 32 doubles of shared memory, free again behind a barrier.
__device__ __forceinline__ double block_sum_of_doubles(double x, double* scratch) {
  x = group_sum(x, 32);
  if (lane() == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0)
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += scratch[warp];
  return sum;
}

__device__ __forceinline__ float capped_logit(float logit, float softcap) {
  return softcap > 0 ? softcap * tanhf(logit / softcap) : logit;
}

// A lane's experts: lane, lane + lanes, ... f(i, expert) with i counting them.
template <int kHeld, class F>
__device__ __forceinline__ void for_own_experts(const RouterTokens& tokens, F&& f) {
  if constexpr (kHeld > 0) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int expert = tokens.own_lane() + i * tokens.lanes;
      if (expert < tokens.num_experts) f(i, expert);
    }
  } else {
    for (int expert = tokens.own_lane(), i = 0; expert < tokens.num_experts; expert += tokens.lanes, ++i) f(i, expert);
  }
}

// The capped logits of a token and their softmax.
template <int kHeld>
struct TokenSoftmax {
  const float* logits;  // (E)
  float softcap;
  float held[kHeld > 0 ? kHeld : 1];
  float largest, inverse, log_sum;

  __device__ __forceinline__ TokenSoftmax(const RouterTokens& tokens, const float* token_logits)
      : logits(token_logits), softcap(tokens.softcap) {
    if constexpr (kHeld > 0)
      for_own_experts<kHeld>(tokens,
                             [&](int i, int expert) { held[i] = capped_logit(token_logits[expert], tokens.softcap); });
    // A NaN passes by the maximum, and then makes the sum NaN.
    largest = -INFINITY;
    for_own_experts<kHeld>(tokens, [&](int i, int expert) { largest = fmaxf(largest, value(i, expert)); });
    for (int bits = tokens.lanes / 2; bits > 0; bits /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bits));
    float sum = 0;
    for_own_experts<kHeld>(tokens, [&](int i, int expert) { sum += expf(value(i, expert) - largest); });
    sum = group_sum(sum, tokens.lanes);
    inverse = 1.0F / sum;
    log_sum = largest + logf(sum);
  }
  __device__ __forceinline__ float value(int i, int expert) const {
    if constexpr (kHeld > 0)
      return held[i];
    else
      return capped_logit(logits[expert], softcap);
  }
  __device__ __forceinline__ float prob_of(float capped) const { return expf(capped - largest) * inverse; }
  __device__ __forceinline__ float prob(int i, int expert) const { return prob_of(value(i, expert)); }
  // Of the capped logit by the logit.
  __device__ __forceinline__ float slope(int i, int expert) const {
    if (softcap == 0) return 1;
    const float t = value(i, expert) / softcap;
    return 1 - t * t;
  }
};

}  // namespace colossus::gpu
