#include <cmath>

#include "ops/attention/attention_strip_cpu.h"

namespace colossus {

double AttentionRule::temperature(int64_t position) const {
  if (temperature_len == 0 || position <= temperature_len) return 1;
  return std::log(static_cast<double>(position)) / std::log(static_cast<double>(temperature_len));
}

AttentionTile AttentionRule::tile(const float* k, const float* v) const {
  return {.k = k,
          .v = v,
          .dim = head_dim,
          .padded_dim = padded_dim,
          .first_key = 0,
          .softcap = softcap != 0,
          .num_runs = 0,
          .runs = {}};
}

void StripQueries::set(int64_t lane, const AttentionRule& rule, int64_t position, int64_t document_start) {
  const double heat = rule.temperature(position);
  first[lane] = static_cast<float>(rule.first_visible(position, document_start));
  last[lane] = static_cast<float>(position);
  // With a cap the query carries what goes into the tanh, and temperature comes after it.
  query_scale[lane] = static_cast<float>(rule.softcap == 0 ? rule.scale * heat : rule.scale / rule.softcap);
  after_tanh[lane] = static_cast<float>(rule.softcap * heat);
  score_scale[lane] = static_cast<float>(rule.scale * heat);
}

const int32_t* checked_positions(const CpuCall& call, int input, int64_t num_keys) {
  if (!call.has_input(input)) return nullptr;
  const View& positions = call.input(input);
  const int32_t* first = positions.as<int32_t>();
  for (int64_t i = 0; i < positions.num_elements(); ++i)
    CHECK(first[i] >= 0 && first[i] < num_keys, "attention.positions: a query stands where there is no key");
  return first;
}

void StripQueries::finish(int64_t count) {
  for (int64_t lane = count; lane < kAttentionTile; ++lane)
    for (float* array : {first, last, query_scale, after_tanh, score_scale}) array[lane] = array[count - 1];
  num_granules_ = static_cast<int>(round_up(count, kAttentionGranule) / kAttentionGranule);
  float least = first[0], most = last[0];
  for (int g = 0; g < num_granules_; ++g) {
    const int64_t begin = g * kAttentionGranule, end = begin + kAttentionGranule;
    const auto [min_first, max_first] = std::minmax_element(first + begin, first + end);
    const auto [min_last, max_last] = std::minmax_element(last + begin, last + end);
    granules_[g] = {*min_first, *max_first, *min_last, *max_last};
    least = std::min(least, *min_first);
    most = std::max(most, *max_last);
  }
  first_key_ = static_cast<int64_t>(least);
  last_key_ = static_cast<int64_t>(most);
}

bool StripQueries::cut(int64_t first_key, int64_t num_keys, AttentionTile& tile) const {
  tile.first_key = first_key;
  tile.num_runs = 0;
  for (int64_t begin = 0; begin < num_keys; begin += kAttentionGranule) {
    const int64_t end = std::min(begin + kAttentionGranule, num_keys);
    const auto low = static_cast<float>(first_key + begin), high = static_cast<float>(first_key + end - 1);
    AttentionRun run = {static_cast<int32_t>(begin), static_cast<int32_t>(end), 0, 0, false};
    for (int g = 0; g < num_granules_; ++g) {
      const Bounds& seen = granules_[g];
      if (seen.max_last < low || seen.min_first > high) continue;
      const auto column = static_cast<int32_t>(g * kAttentionGranule);
      if (run.column_end == 0) run.column_begin = column;
      run.column_end = column + static_cast<int32_t>(kAttentionGranule);
    }
    if (run.column_end == 0) continue;
    // Granules between two visible ones may see nothing of it: the run is contiguous and they are masked.
    for (int64_t g = run.column_begin / kAttentionGranule; g < run.column_end / kAttentionGranule; ++g)
      run.masked |= granules_[g].max_first > low || granules_[g].min_last < high;
    AttentionRun* previous = tile.num_runs ? &tile.runs[tile.num_runs - 1] : nullptr;
    if (previous && previous->key_end == run.key_begin && previous->column_begin == run.column_begin &&
        previous->column_end == run.column_end && previous->masked == run.masked) {
      previous->key_end = run.key_end;
    } else {
      tile.runs[tile.num_runs++] = run;
    }
  }
  return tile.num_runs > 0;
}

void load_rows(const AttentionKernels& kernels, StridedRows from, int64_t dim, int64_t count, int64_t total,
               float* rows, int64_t padded_dim) {
  if (from.view.dtype == DType::kF32) {
    kernels.load_f32(from.view.as<float>() + from.offset, from.stride, dim, count, total, rows, padded_dim);
  } else {
    const auto* bits = reinterpret_cast<const uint16_t*>(from.view.as<BFloat16>() + from.offset);
    kernels.load_bf16(bits, from.stride, dim, count, total, rows, padded_dim);
  }
}

void store_rows(const AttentionKernels& kernels, const float* rows, int64_t padded_dim, int64_t dim, int64_t count,
                StridedRows to) {
  if (to.view.dtype == DType::kF32) {
    kernels.store_f32(rows, padded_dim, dim, count, to.view.as<float>() + to.offset, to.stride);
  } else {
    auto* bits = reinterpret_cast<uint16_t*>(to.view.as<BFloat16>() + to.offset);
    kernels.store_bf16(rows, padded_dim, dim, count, bits, to.stride);
  }
}

}  // namespace colossus
