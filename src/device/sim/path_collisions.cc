#include "device/sim/path_collisions.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace colossus {
namespace {

constexpr double kNegligible = 1e-9;

// log P(no link that matters carries more than k + 1 parts), k = 0, 1, ...; up to where it is 0.
std::vector<double> log_none_fuller(const HashedFlows& flows) {
  const double mean = flows.links_load * flows.parts_per_link;  // of others on the link of a part
  std::vector<double> logs;
  double below = 0;
  double log_probability = -mean;  // of exactly k others
  for (int k = 0; k < 100000; ++k) {
    below += std::exp(log_probability);
    logs.push_back(flows.hashed * std::log(std::clamp(below, 1e-300, 1.0)));
    // The second: below what the sum of the probabilities can resolve.
    if (k > mean && (logs.back() > -kNegligible || log_probability < -40)) break;
    log_probability += std::log(mean / (k + 1));
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
    if (tier.links_load <= 0 || tier.hashed <= 0) continue;
    steps.push_back({tier.parts_per_link, log_none_fuller(tier)});
    for (size_t k = 0; k < steps.back().logs.size(); ++k) {
      const double load = static_cast<double>(k + 1) / tier.parts_per_link;
      if (load > 1) loads.push_back(load);
    }
  }
  std::sort(loads.begin(), loads.end());
  double slowdown = 1;
  for (size_t i = 0; i + 1 < loads.size(); ++i) {
    double log_all = 0;
    for (const Steps& tier : steps) {
      // Parts that a link of this load carries, less the one that is always there.
      const auto others =
          static_cast<size_t>(std::max(0.0, std::floor(loads[i] * tier.parts_per_link * (1 + 1e-12)) - 1));
      log_all += tier.logs[std::min(others, tier.logs.size() - 1)];
    }
    slowdown += (loads[i + 1] - loads[i]) * -std::expm1(log_all);
  }
  return slowdown;
}

}  // namespace colossus
