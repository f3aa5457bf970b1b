// What the CPU kernels of attention share: which keys a strip of queries sees, and how rows of tensors get into tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"
#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/attention/attention.h"
#include "ops/attention/attention_simd.h"
#include "tensor/view.h"

namespace colossus {

constexpr int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

inline const AttentionKernels& chosen_attention_kernels() {
  return select_isa(attention_kernels<Avx512>(), attention_kernels<Avx2>());
}

struct AttentionRule : AttentionAttributes {
  explicit AttentionRule(const AttentionAttributes& op)
      : AttentionAttributes(op), padded_dim(round_up(op.head_dim, kAttentionGranule)) {}

  int64_t padded_dim;

  // Of keys and values in memory as AttentionTile says; StripQueries::cut fills in the rest.
  AttentionTile tile(const float* k, const float* v) const;
  int64_t group() const { return num_heads / num_kv_heads; }
  double temperature(int64_t position) const;
  // Never below 0 nor above the position, whatever the document starts say: a query sees itself.
  int64_t first_visible(int64_t position, int64_t document_start) const {
    const int64_t in_window = window == 0 ? 0 : position - window + 1;
    return std::min(position, std::max({document_start, in_window, int64_t{0}}));
  }
};

// Columns of queries, (B, T), or null when they are 0 .. T - 1; each one of the keys'.
const int32_t* checked_positions(const CpuCall& call, int input, int64_t num_keys);

// The queries of one strip: what each sees and what its scores are multiplied by.
class StripQueries {
 public:
  static constexpr int64_t kNumFloats = 5 * kAttentionTile;
  // `memory`: kNumFloats floats.
  explicit StripQueries(float* memory)
      : first(memory),
        last(first + kAttentionTile),
        query_scale(last + kAttentionTile),
        after_tanh(query_scale + kAttentionTile),
        score_scale(after_tanh + kAttentionTile) {}

  float *first, *last, *query_scale, *after_tanh, *score_scale;  // as AttentionStrip; query_scale: of its q

  void set(int64_t lane, const AttentionRule& rule, int64_t position, int64_t document_start);
  // After count >= 1 lanes are set. Lanes behind see what the last one sees, so that no mask is needed for them: they
  // compute on zeros and nobody reads the result.
  void finish(int64_t count);
  int64_t first_key() const { return first_key_; }
  int64_t last_key() const { return last_key_; }
  // What to compute of the tile of keys first_key .. first_key + num_keys - 1; false if nothing.
  bool cut(int64_t first_key, int64_t num_keys, AttentionTile& tile) const;

 private:
  struct Bounds {
    float min_first, max_first, min_last, max_last;
  };
  Bounds granules_[kAttentionTile / kAttentionGranule];
  int num_granules_ = 0;
  int64_t first_key_ = 0, last_key_ = 0;
};

// Rows in f32 or bf16, from element `offset` of a tensor, `stride` elements apart. See AttentionKernels::load_f32.
struct StridedRows {
  const View& view;
  int64_t offset, stride;
};
void load_rows(const AttentionKernels& kernels, StridedRows from, int64_t dim, int64_t count, int64_t total,
               float* rows, int64_t padded_dim);
void store_rows(const AttentionKernels& kernels, const float* rows, int64_t padded_dim, int64_t dim, int64_t count,
                StridedRows to);

// work(item, part) for each item, dealt to the threads like cards in a snake (0 1 2 2 1 0 0 1 ...): items sorted from
// heavy to light are shared out evenly.
template <class Work>
void deal(ThreadPool& pool, int64_t num_items, Work work) {
  pool.run([&](int part) {
    const int64_t parts = pool.num_threads();
    for (int64_t round = 0; round * parts < num_items; ++round) {
      const int64_t item = round * parts + (round % 2 == 0 ? part : parts - 1 - part);
      if (item < num_items) work(item, part);
    }
  });
}

}  // namespace colossus
