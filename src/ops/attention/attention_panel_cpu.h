// The forward pass over panels of queries, for whole sequences and for prompts that go into a cache.
#pragma once

#include "base/thread_pool.h"
#include "ops/attention/attention_strip_cpu.h"

namespace colossus {

// Up to kMaxStrips strips of queries that share a key/value head meet each key tile while it is in the cache. How
// queries are cut into panels depends on shapes alone.
class PanelAttention {
 public:
  static constexpr int64_t kMaxStrips = 4;

  PanelAttention(const AttentionRule& rule, int64_t num_sequences, int64_t num_positions);

  int64_t thread_bytes() const;

  struct Operands {
    const View &q, &k, &v, &o;  // k and v (B, S, K * D), S >= num_positions
    float* lse = nullptr;       // (B, H, T), or none
    const int32_t* document_start = nullptr;
    const int32_t* held = nullptr;       // of each sequence: keys before its first query; null: none
    const int32_t* positions = nullptr;  // (B, T): the column of each query; null: they follow each other
  };
  // workspace: thread_bytes() a thread.
  void run(ThreadPool& pool, const Operands& operands, std::byte* workspace) const;

 private:
  struct Panel {
    int64_t sequence, kv_head;
    int64_t first_head, num_heads;
    int64_t first_position, num_positions;
    int64_t num_rows() const { return num_heads * num_positions; }
  };
  struct Strip;
  struct Segment;

  Panel panel(int64_t item) const;
  void run_panel(const Panel& panel, const Operands& operands, float* memory) const;
  template <class Visit>
  void for_each_segment(const Panel& panel, int64_t strip, Visit visit) const;
  void load_strip(const Panel& panel, int64_t index, const Operands& operands, Strip& strip, float* rows) const;
  void store_strip(const Panel& panel, int64_t index, const Operands& operands, Strip& strip, float* rows) const;

  AttentionRule rule_;
  int64_t num_sequences_, num_positions_;
  int64_t panel_heads_, panel_positions_;
  int64_t head_panels_, position_panels_;
};

}  // namespace colossus
