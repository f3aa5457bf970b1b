// What both kernels of attention's backward pass know of the queries beforehand.
#pragma once

#include "ops/attention/attention_cuda.h"

namespace colossus {

// Queries in tiles; rows are padded to whole tiles, whose probabilities come out as 0.
inline constexpr int kGradTile = 64;

struct GradRows {
  int padded_queries;     // T in whole tiles
  const float* lse;       // (B, H, padded), in units of log 2
  const float* delta;     // (B, H, padded): the sum of do * o
  const float* outer;     // (B, padded): see ScoreRule
  const int* first;       // (B, padded): SeenKeys
  const int* last;        // (B, padded)
  const SeenRange* seen;  // (B, padded / kGradTile)
};

// Of a query and a key with x = q . k: P, and by what dP - delta becomes the gradient of x.
struct PairGrad {
  float weight, slope;
};
__device__ __forceinline__ PairGrad pair_grad(const ScoreRule& rule, float x, float outer, float lse, bool seen) {
  float slope = outer * kLn2;
  if (rule.capped) {
    x = quick_tanh(rule.inner * x);
    slope *= rule.inner * (1.0F - x * x);
  }
  const float weight = seen ? gpu::quick_exp2(outer * x - lse) : 0.0F;
  // x of what is not seen may be a NaN.
  return {weight, weight == 0.0F ? 0.0F : weight * slope};
}
__device__ __forceinline__ float product_grad(float slope, float dp, float delta) {
  return slope == 0.0F ? 0.0F : slope * (dp - delta);
}

struct GradPointers {
  const View *grad, *q, *k, *v;  // grad: of o
  const View *dq, *dk, *dv;
};

// Any head dim; attention_plain_grad_cuda.cu.
void run_plain_attention_grad(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                              const GradPointers& pointers);
// bf16, heads of at most kMostTileDim; dk and dv, in tile_key_grads_bytes() of workspace, and dq.
int64_t tile_key_grads_bytes(const ScoreRule& rule, int64_t num_sequences);
void run_tile_key_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                        const GradPointers& pointers, std::byte* workspace);
void run_tile_query_grads(gpu::Stream stream, const ScoreRule& rule, const GradRows& rows, int64_t num_sequences,
                          const GradPointers& pointers);

}  // namespace colossus
