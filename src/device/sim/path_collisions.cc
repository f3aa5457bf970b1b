#include "device/sim/path_collisions.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace colossus {
namespace {

// log P(no link with a part that is waited for carries more than k parts), k = 0, 1, ...
std::vector<double> log_none_fuller(const HashedFlows& flows) {
  const double mean = flows.links_load * flows.parts_per_link;
  // P(n parts on a link, one of them waited for), up to where it is nothing even for all links together.
  std::vector<double> probabilities;
  for (int n = 0; n < 100000; ++n) {
    const double probability = std::exp(n * std::log(mean) - mean - std::lgamma(n + 1.0));
    const double others_only = flows.waited_for < 1 ? std::exp(n * std::log1p(-flows.waited_for)) : n == 0 ? 1.0 : 0.0;
    probabilities.push_back(probability * (1 - others_only));
    if (n > mean && flows.links * probability < 1e-12) break;
  }
  std::vector<double> logs(probabilities.size());
  double fuller = 0;
  for (size_t k = probabilities.size(); k-- > 0; fuller += probabilities[k]) {
    logs[k] = flows.links * std::log1p(-std::min(fuller, 1 - 1e-12));
  }
  return logs;
}

}  // namespace

double expected_slowdown(std::span<const HashedFlows> tiers) {
  struct Steps {
    double parts_per_link;
    std::vector<double> logs;
  };
  std::vector<Steps> steps;
  std::vector<double> loads = {1};  // of links, where the probability changes
  for (const HashedFlows& tier : tiers) {
    if (tier.links_load <= 0 || tier.waited_for <= 0) continue;
    steps.push_back({tier.parts_per_link, log_none_fuller(tier)});
    for (size_t k = 0; k < steps.back().logs.size(); ++k) {
      const double load = static_cast<double>(k) / tier.parts_per_link;
      if (load > 1) loads.push_back(load);
    }
  }
  std::sort(loads.begin(), loads.end());
  double slowdown = 1;
  for (size_t i = 0; i + 1 < loads.size(); ++i) {
    double log_all = 0;
    for (const Steps& tier : steps) {
      const auto parts = static_cast<size_t>(std::floor(loads[i] * tier.parts_per_link * (1 + 1e-12)));
      log_all += tier.logs[std::min(parts, tier.logs.size() - 1)];
    }
    slowdown += (loads[i + 1] - loads[i]) * -std::expm1(log_all);
  }
  return slowdown;
}

}  // namespace colossus
