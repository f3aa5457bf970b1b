#include "infer/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"

namespace colossus {

void SamplerOptions::visit_fields(FieldVisitor& v) {
  v.field("temperature", temperature, "0: always the most likely token", {.min = 0, .max = 100});
  v.field("top_k", top_k, "only the k most likely tokens; 0: all", {.unit = "tokens", .min = 0});
  v.field("top_p", top_p, "only the fewest tokens whose probability sums to p", {.max = 1, .above = 0});
  v.field("min_p", min_p, "only tokens with at least this share of the most likely one's probability",
          {.min = 0, .max = 1});
  v.field("repetition_penalty", repetition_penalty, "above 1: tokens seen before become less likely", {.above = 0});
  v.field("repetition_window", repetition_window, "how far back the penalty looks", {.unit = "tokens", .min = 0});
  v.field("seed", seed, "of the draws", {.min = 0});
}

void Sampler::collect(std::span<const float> logits, std::span<const int32_t> history) {
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) candidates_.push_back({logits[i], static_cast<int32_t>(i)});
  if (options_.repetition_penalty == 1 || candidates_.size() != logits.size()) return;
  const size_t window = std::min(history.size(), static_cast<size_t>(options_.repetition_window));
  std::vector<int32_t> seen(history.end() - static_cast<int64_t>(window), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (int32_t token : seen) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    float& logit = candidates_[static_cast<size_t>(token)].logit;
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history, int64_t sequence) {
  collect(logits, history);
  if (candidates_.empty()) return 0;
  // Ties go to the lower token, so that nothing hangs on how a library sorts.
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), more_likely)->token;
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k - 1, candidates_.end(), more_likely);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  // Order only matters where a prefix is cut off, and for the draw to be the same everywhere.
  if (options_.top_k > 0 || options_.top_p < 1) std::sort(candidates_.begin(), candidates_.end(), more_likely);
  const RngKey key{.seed = static_cast<uint64_t>(options_.seed),
                   .purpose = RngPurpose::kSampling,
                   .step = static_cast<uint64_t>(sequence)};
  const auto bits = random_block(key, history.size());
  return draw((static_cast<double>(bits[0]) + static_cast<double>(bits[1]) * 0x1p-32) * 0x1p-32);
}

int32_t Sampler::draw(double uniform) {
  float highest = candidates_.front().logit;
  for (const Candidate& candidate : candidates_) highest = std::max(highest, candidate.logit);
  if (std::isinf(highest)) {  // all -inf, or one +inf: nothing to weigh
    for (const Candidate& candidate : candidates_)
      if (candidate.logit == highest) return candidate.token;
  }
  weights_.resize(candidates_.size());
  double total = 0;
  for (size_t i = 0; i < candidates_.size(); ++i)
    total += weights_[i] =
        std::exp((static_cast<double>(candidates_[i].logit) - static_cast<double>(highest)) / options_.temperature);
  size_t kept = candidates_.size();
  if (options_.top_p < 1) {
    double sum = 0;
    for (kept = 0; kept < candidates_.size() && sum < options_.top_p * total;) sum += weights_[kept++];
    total = sum;
  }
  if (options_.min_p > 0) {
    total = 0;
    for (size_t i = 0; i < kept; ++i)
      total += weights_[i] = weights_[i] >= options_.min_p ? weights_[i] : 0;  // the highest weighs 1
  }
  double left = uniform * total;
  size_t chosen = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (weights_[i] == 0) continue;
    chosen = i;
    if ((left -= weights_[i]) < 0) break;
  }
  return candidates_[chosen].token;
}

}  // namespace colossus
