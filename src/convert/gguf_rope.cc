#include "convert/gguf_rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/rotary/rotary.h"

namespace colossus {
namespace {

constexpr double kTolerance = 1e-5;  // relative: tables are made in fp32

double frequency(const ModelConfig& m, size_t pair) {
  return std::pow(m.rope_theta, -2.0 * static_cast<double>(pair) / static_cast<double>(m.head_dim));
}

double slowed_by(const ModelConfig& m, size_t pair) {
  const RotaryStretch stretch{.factor = m.rope_factor,
                              .low_turns = m.rope_low_turns,
                              .high_turns = m.rope_high_turns,
                              .original_tokens = m.rope_original_context};
  return frequency(m, pair) / stretch.stretch(frequency(m, pair));
}

bool gives(const ModelConfig& m, std::span<const float> table) {
  for (size_t i = 0; i < table.size(); ++i)
    if (std::abs(static_cast<double>(table[i]) / slowed_by(m, i) - 1) > kTolerance) return false;
  return true;
}

// Turns within rope_original_context below which pairs are slow and above which they are not, from where the table
// goes from one to the other: between the two, the share of the old frequency is a straight line in the turns.
void fit_turns(std::span<const float> table, ModelConfig& m) {
  const auto turns = [&](size_t pair) {
    return static_cast<double>(m.rope_original_context) * frequency(m, pair) / (2 * std::numbers::pi);
  };
  const auto share = [&](size_t pair) {
    return (1 / static_cast<double>(table[pair]) - 1 / m.rope_factor) / (1 - 1 / m.rope_factor);
  };
  // Pairs turn slower and slower: first those that are not slow, then some between, then the slow ones.
  size_t first = 0, end = table.size();
  while (first < end && share(first) > 1 - kTolerance) ++first;
  while (end > first && share(end - 1) < kTolerance) --end;
  const double above = first > 0 ? turns(first - 1) : 2 * turns(0);
  const double below = end < table.size() ? turns(end) : turns(end - 1) / 2;
  if (end - first >= 2) {
    const double slope = (share(first) - share(end - 1)) / (turns(first) - turns(end - 1));
    m.rope_low_turns = turns(first) - share(first) / slope;
    m.rope_high_turns = m.rope_low_turns + 1 / slope;
  } else if (end - first == 1) {  // many lines go through one point; none may reach its neighbours
    const double width =
        0.9 * std::min((turns(first) - below) / share(first), (above - turns(first)) / (1 - share(first)));
    m.rope_low_turns = turns(first) - share(first) * width;
    m.rope_high_turns = turns(first) + (1 - share(first)) * width;
  } else {
    m.rope_low_turns = below + (above - below) / 3;
    m.rope_high_turns = above - (above - below) / 3;
  }
}

}  // namespace

std::vector<float> rope_freqs_of(const ModelConfig& m) {
  if (m.rope_factor == 1) return {};
  std::vector<float> table(static_cast<size_t>(m.head_dim / 2));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(slowed_by(m, i));
  return table;
}

Status take_rope_freqs(std::span<const float> table, ModelConfig& m) {
  const auto needed = static_cast<size_t>(m.head_dim / 2);
  if (table.size() != needed)
    return invalid(fmt::format("rope_freqs.weight has {} numbers; needed {}, one for each pair of a head of {}",
                               table.size(), needed, m.head_dim));
  for (const float times : table)
    if (!std::isfinite(times) || times < 1 - kTolerance)
      return invalid(fmt::format("rope_freqs.weight holds {}; only pairs that turn slower are there", times));
  ModelConfig tried = m;
  // To a whole number, where it is that nearly.
  tried.rope_factor = *std::ranges::max_element(table);
  if (tried.rope_factor < 1 + kTolerance) return ok_status();  // ones alone
  if (std::abs(std::round(tried.rope_factor) - tried.rope_factor) < kTolerance)
    tried.rope_factor = std::round(tried.rope_factor);
  tried.rope_low_turns = 1;
  tried.rope_high_turns = 4;
  bool found = false;
  for (int64_t tokens : {8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 16384, 32768, 65536, 131072}) {
    tried.rope_original_context = tokens;
    if ((found = gives(tried, table))) break;
  }
  if (!found) {
    tried.rope_original_context = 8192;
    fit_turns(table, tried);
    if (!(tried.rope_low_turns > 0) || !(tried.rope_high_turns > tried.rope_low_turns) || !gives(tried, table))
      return invalid("rope_freqs.weight is no stretch of the rotary embedding as Llama 3.1 has it; no other is there");
  }
  m = tried;
  return ok_status();
}

}  // namespace colossus
