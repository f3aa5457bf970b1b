#include <algorithm>
#include <cstring>

#include "ops/attention/attention_panel_cpu.h"

namespace colossus {
namespace {
// Enough items for this many threads; panels of fewer positions read K and V more often.
constexpr int64_t kItemsWanted = 64;
}  // namespace

struct PanelAttention::Strip {
  StripQueries queries;
  float *q, *o;      // (padded_dim, 64)
  float *max, *sum;  // 64

  Strip(float* memory, int64_t padded_dim)
      : queries(memory),
        q(memory + StripQueries::kNumFloats),
        o(q + padded_dim * kAttentionTile),
        max(o + padded_dim * kAttentionTile),
        sum(max + kAttentionTile) {}
  static int64_t num_floats(int64_t padded_dim) {
    return StripQueries::kNumFloats + (2 * padded_dim + 2) * kAttentionTile;
  }
};

// Neighbouring positions of one head.
struct PanelAttention::Segment {
  int64_t lane, count;
  int64_t head, position;
};

PanelAttention::PanelAttention(const AttentionRule& rule, int64_t num_sequences, int64_t num_positions)
    : rule_(rule), num_sequences_(num_sequences), num_positions_(num_positions) {
  constexpr int64_t kMaxRows = kMaxStrips * kAttentionTile;
  const int64_t strip_positions = std::clamp<int64_t>(num_positions, 1, kAttentionTile);
  panel_heads_ = std::min(rule.group(), kMaxRows / strip_positions);
  panel_positions_ = strip_positions;
  head_panels_ = (rule.group() + panel_heads_ - 1) / panel_heads_;
  const auto items_with = [&](int64_t positions) {
    return num_sequences * rule.num_kv_heads * head_panels_ * ((num_positions + positions - 1) / positions);
  };
  while (panel_positions_ < num_positions && 2 * panel_positions_ * panel_heads_ <= kMaxRows &&
         items_with(2 * panel_positions_) >= kItemsWanted)
    panel_positions_ *= 2;
  position_panels_ = (num_positions + panel_positions_ - 1) / panel_positions_;
}

int64_t PanelAttention::thread_bytes() const {
  const int64_t tiles = (3 * rule_.padded_dim + kAttentionTile) * kAttentionTile;  // k, v, rows; scores
  return 4 * (tiles + kMaxStrips * Strip::num_floats(rule_.padded_dim));
}

// Late positions first: they see the most keys.
PanelAttention::Panel PanelAttention::panel(int64_t item) const {
  const int64_t groups = num_sequences_ * rule_.num_kv_heads;
  const int64_t head_panel = item % head_panels_, group = item / head_panels_ % groups;
  const int64_t level = item / (head_panels_ * groups);
  Panel panel;
  panel.sequence = group / rule_.num_kv_heads;
  panel.kv_head = group % rule_.num_kv_heads;
  panel.first_head = panel.kv_head * rule_.group() + head_panel * panel_heads_;
  panel.num_heads = std::min(panel_heads_, rule_.group() - head_panel * panel_heads_);
  panel.first_position = (position_panels_ - 1 - level) * panel_positions_;
  panel.num_positions = std::min(panel_positions_, num_positions_ - panel.first_position);
  return panel;
}

void PanelAttention::run(ThreadPool& pool, const Operands& operands, std::byte* workspace) const {
  const int64_t num_items = num_sequences_ * rule_.num_kv_heads * head_panels_ * position_panels_;
  deal(pool, num_items, [&](int64_t item, int part) {
    run_panel(panel(item), operands, reinterpret_cast<float*>(workspace + part * thread_bytes()));
  });
}

// A panel's rows are its heads' positions, head after head; strips are 64 rows each.
template <class Visit>
void PanelAttention::for_each_segment(const Panel& panel, int64_t strip, Visit visit) const {
  const int64_t begin = strip * kAttentionTile, end = std::min(begin + kAttentionTile, panel.num_rows());
  for (int64_t row = begin; row < end;) {
    const int64_t offset = row % panel.num_positions;
    const Segment segment = {.lane = row - begin,
                             .count = std::min(end - row, panel.num_positions - offset),
                             .head = panel.first_head + row / panel.num_positions,
                             .position = panel.first_position + offset};
    visit(segment);
    row += segment.count;
  }
}

void PanelAttention::load_strip(const Panel& panel, int64_t index, const Operands& operands, Strip& strip,
                                float* rows) const {
  const AttentionKernels& kernels = chosen_attention_kernels();
  const int64_t held = operands.held ? operands.held[panel.sequence] : 0;
  const int64_t row_size = rule_.num_heads * rule_.head_dim, padded_dim = rule_.padded_dim;
  int64_t count = 0;
  for_each_segment(panel, index, [&](const Segment& segment) {
    const int64_t first_row = panel.sequence * num_positions_ + segment.position;
    for (int64_t i = 0; i < segment.count; ++i) {
      const int64_t start = operands.document_start ? operands.document_start[first_row + i] : 0;
      const int64_t position = operands.positions ? operands.positions[first_row + i] : held + segment.position + i;
      strip.queries.set(segment.lane + i, rule_, position, start);
    }
    load_rows(kernels, {operands.q, first_row * row_size + segment.head * rule_.head_dim, row_size}, rule_.head_dim,
              segment.count, segment.count, rows + segment.lane * padded_dim, padded_dim);
    count += segment.count;
  });
  strip.queries.finish(count);
  std::fill(rows + count * padded_dim, rows + kAttentionTile * padded_dim, 0.0F);
  kernels.to_columns(rows, padded_dim, strip.queries.query_scale, strip.q);
  std::fill_n(strip.o, padded_dim * kAttentionTile, 0.0F);
  std::fill_n(strip.max, kAttentionTile, kAttentionNothingSeen);
  std::fill_n(strip.sum, kAttentionTile, 0.0F);
}

void PanelAttention::store_strip(const Panel& panel, int64_t index, const Operands& operands, Strip& strip,
                                 float* rows) const {
  const AttentionKernels& kernels = chosen_attention_kernels();
  const int64_t row_size = rule_.num_heads * rule_.head_dim, padded_dim = rule_.padded_dim;
  float factors[kAttentionTile], lse[kAttentionTile];
  kernels.finish_softmax(strip.max, strip.sum, factors, lse);
  kernels.to_rows(strip.o, padded_dim, factors, rows);
  for_each_segment(panel, index, [&](const Segment& segment) {
    const int64_t first_row = panel.sequence * num_positions_ + segment.position;
    store_rows(kernels, rows + segment.lane * padded_dim, padded_dim, rule_.head_dim, segment.count,
               {operands.o, first_row * row_size + segment.head * rule_.head_dim, row_size});
    if (operands.lse) {
      const int64_t to = (panel.sequence * rule_.num_heads + segment.head) * num_positions_ + segment.position;
      std::copy_n(lse + segment.lane, segment.count, operands.lse + to);
    }
  });
}

void PanelAttention::run_panel(const Panel& panel, const Operands& operands, float* memory) const {
  const AttentionKernels& kernels = chosen_attention_kernels();
  const int64_t padded_dim = rule_.padded_dim, tile_size = padded_dim * kAttentionTile;
  float *k = memory, *v = k + tile_size, *rows = v + tile_size, *scores = rows + tile_size;
  float* strip_memory = scores + kAttentionTile * kAttentionTile;
  const auto strip_at = [&](int64_t i) { return Strip(strip_memory + i * Strip::num_floats(padded_dim), padded_dim); };
  Strip strips[kMaxStrips] = {strip_at(0), strip_at(1), strip_at(2), strip_at(3)};
  const int64_t num_strips = (panel.num_rows() + kAttentionTile - 1) / kAttentionTile;
  int64_t first_key = INT64_MAX, last_key = 0;
  for (int64_t i = 0; i < num_strips; ++i) {
    load_strip(panel, i, operands, strips[i], rows);
    first_key = std::min(first_key, strips[i].queries.first_key());
    last_key = std::max(last_key, strips[i].queries.last_key());
  }
  AttentionTile tile = rule_.tile(k, v);
  const int64_t row_size = rule_.num_kv_heads * rule_.head_dim, capacity = operands.k.shape[1];
  for (int64_t key = first_key / kAttentionTile * kAttentionTile; key <= last_key; key += kAttentionTile) {
    const int64_t count = std::min(kAttentionTile, last_key + 1 - key);
    const int64_t offset = (panel.sequence * capacity + key) * row_size + panel.kv_head * rule_.head_dim;
    load_rows(kernels, {operands.k, offset, row_size}, rule_.head_dim, count, count, k, padded_dim);
    load_rows(kernels, {operands.v, offset, row_size}, rule_.head_dim, count, count, v, padded_dim);
    const int64_t next_count = std::clamp<int64_t>(last_key + 1 - key - kAttentionTile, 0, kAttentionTile);
    const int64_t element_bytes = dtype_bytes(operands.k.dtype),
                  next_bytes = (offset + kAttentionTile * row_size) * element_bytes;
    for (int64_t i = 0; i < num_strips; ++i) {
      if (!strips[i].queries.cut(key, count, tile)) continue;
      // Each strip fetches its share.
      const int64_t share_begin = next_count * i / num_strips, share_end = next_count * (i + 1) / num_strips;
      const int64_t at = next_bytes + share_begin * row_size * element_bytes;
      const AttentionAhead ahead = {.k = reinterpret_cast<const char*>(operands.k.data) + at,
                                    .v = reinterpret_cast<const char*>(operands.v.data) + at,
                                    .stride_bytes = row_size * element_bytes,
                                    .row_bytes = rule_.head_dim * element_bytes,
                                    .num_rows = share_end - share_begin};
      AttentionStrip strip = {};
      strip.q = strips[i].q;
      strip.after_tanh = strips[i].queries.after_tanh;
      strip.first = strips[i].queries.first;
      strip.last = strips[i].queries.last;
      strip.o = strips[i].o;
      strip.max = strips[i].max;
      strip.sum = strips[i].sum;
      kernels.forward_tile(tile, strip, ahead, scores);
    }
  }
  for (int64_t i = 0; i < num_strips; ++i) store_strip(panel, i, operands, strips[i], rows);
}

}  // namespace colossus
