// Attention on tiles of 64 queries by 64 keys, over raw pointers; the kernels behind attention_cpu.cc and its
// neighbours.
//
// Everything is computed transposed: a score tile is (keys, queries), its vectors run over queries. Then K and V are
// the operands whose single elements are broadcast, so that they are used as they are stored; the softmax needs no
// reduction across lanes; and what differs by query (maximum, sum, temperature, visible keys) is one vector load.
// The rejected form, (queries, keys), has to transpose every K tile and reduce every row across lanes.
//
// bf16 tensors are widened as their rows are loaded (load_bf16). Dot products of bf16 pairs (AVX512-BF16) would enter
// in multiply() of attention_simd.cc, with K and V tiles left narrow and P narrowed as it is made.
#pragma once

#include <stdint.h>

namespace colossus {

inline constexpr int64_t kAttentionTile = 64;     // queries of a strip, keys of a tile
inline constexpr int64_t kAttentionGranule = 16;  // what masks skip: 16 queries by 16 keys

// The maximum of a query that has seen no key yet: below any real score, and so far above what masked scores are set to
// that their exponential is 0 against it.
inline constexpr float kAttentionNothingSeen = -1e30F;

// A rectangle of a score tile that is computed; columns are queries, in whole granules.
struct AttentionRun {
  int32_t key_begin, key_end;
  int32_t column_begin, column_end;
  bool masked;  // not every query in it sees every key
};

// Rows of K and V that will be loaded next, fetched from memory between blocks of arithmetic: they are short pieces far
// apart, which the processor does not fetch ahead by itself.
struct AttentionAhead {
  const char *k, *v;
  int64_t stride_bytes, row_bytes;
  int64_t num_rows;
};

// A key tile as one strip of queries meets it. Matrices are padded to padded_dim columns, a multiple of 16, with zeros.
struct AttentionTile {
  const float* k;  // (64, padded_dim)
  const float* v;
  int64_t dim, padded_dim;
  int64_t first_key;  // column of the first key
  bool softcap;
  int num_runs;
  AttentionRun runs[kAttentionTile / kAttentionGranule];
};

// 64 queries; arrays without a shape have one element a query.
struct AttentionStrip {
  const float* q;           // (padded_dim, 64), times what makes q . k the score (the tanh's argument with a soft cap)
  const float* after_tanh;  // the score is after_tanh * tanh(q . k); only read with a soft cap
  const float* first;       // the columns a query sees, as floats: exact below 2^24
  const float* last;
  // Forward.
  float* o;  // (padded_dim, 64), not yet divided by sum
  float* max;
  float* sum;
  // Backward.
  const float* q_rows;     // (64, padded_dim), as stored
  const float* grad_rows;  // (64, padded_dim), of o
  const float* grad;       // (padded_dim, 64)
  const float* lse;
  const float* delta;        // sum of o * grad
  const float* score_scale;  // d score / d (q . k) but for the tanh: scale * temperature
  float* dq;                 // (padded_dim, 64)
};

struct AttentionKernels {
  // Rows of `dim` elements, `stride` apart, to padded rows of floats; rows count .. total - 1 become zero.
  void (*load_f32)(const float* x, int64_t stride, int64_t dim, int64_t count, int64_t total, float* rows,
                   int64_t padded_dim);
  void (*load_bf16)(const uint16_t* x, int64_t stride, int64_t dim, int64_t count, int64_t total, float* rows,
                    int64_t padded_dim);
  void (*store_f32)(const float* rows, int64_t padded_dim, int64_t dim, int64_t count, float* x, int64_t stride);
  void (*store_bf16)(const float* rows, int64_t padded_dim, int64_t dim, int64_t count, uint16_t* x, int64_t stride);
  // (64, padded_dim) to (padded_dim, 64) and back, each query times its factor.
  void (*to_columns)(const float* rows, int64_t padded_dim, const float* factors, float* columns);
  void (*to_rows)(const float* columns, int64_t padded_dim, const float* factors, float* rows);
  // dots[i] = the sum over d of a[d, i] * b[d, i], added up in the order in which tiles add up q . k.
  void (*column_dots)(const float* a, const float* b, int64_t dim, float* dots);

  // factors = 1 / sum and lse = max + log(sum), of 64 queries.
  void (*finish_softmax)(const float* max, const float* sum, float* factors, float* lse);

  // One step of the online softmax: o, max, sum of the strip take in the tile. scores: (64, 64) of scratch.
  void (*forward_tile)(const AttentionTile& tile, const AttentionStrip& strip, const AttentionAhead& ahead,
                       float* scores);
  // Adds to strip.dq, if there, and to dk and dv, (64, padded_dim), if there. p, ds: (64, 64) of scratch.
  void (*grad_tile)(const AttentionTile& tile, const AttentionStrip& strip, float* p, float* ds, float* dk, float* dv);

  // One query a head against rows of a cache. q: (num_heads, padded_dim); scores: (num_heads, 64).
  // A cache row is num_heads / group pieces of dim. Kernels take in at most 64 rows, `stride` elements apart.
  void (*decode_scores_f32)(const float* q, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim,
                            const float* k, int64_t stride, int64_t count, float* scores);
  void (*decode_scores_bf16)(const float* q, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim,
                             const uint16_t* k, int64_t stride, int64_t count, float* scores);
  // Products q . k to probabilities; o (num_heads, padded_dim), max and sum (num_heads) are rescaled to the new
  // maximum. The score is scale * (q . k), or with after_tanh != 0 after_tanh * tanh(scale * (q . k)).
  void (*decode_softmax)(float* scores, int64_t num_heads, int64_t padded_dim, int64_t count, float scale,
                         float after_tanh, float* o, float* max, float* sum);
  void (*decode_values_f32)(const float* scores, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim,
                            const float* v, int64_t stride, int64_t count, float* o);
  void (*decode_values_bf16)(const float* scores, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim,
                             const uint16_t* v, int64_t stride, int64_t count, float* o);
};

template <class Isa>
const AttentionKernels& attention_kernels();

}  // namespace colossus
