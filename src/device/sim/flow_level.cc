#include "device/sim/flow_level.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace colossus {
namespace {

uint64_t mixed(uint64_t value) {  // splitmix64's finalizer (Steele et al. 2014)
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
  return value ^ value >> 31;
}

uint64_t mixed(uint64_t a, uint64_t b) { return mixed(mixed(a) ^ b); }

// Links, in order of the kinds of their keys.
enum LinkKind : uint64_t { kDomainOut, kDomainIn, kNicOut, kNicIn, kUp, kDown };

}  // namespace

int32_t FlowLevelNetwork::link(uint64_t key, double gb_per_second) {
  const auto [it, fresh] = links_.try_emplace(key, static_cast<int32_t>(rates_.size()));
  if (fresh) rates_.push_back(gb_per_second * 1e9);
  return it->second;
}

double FlowLevelNetwork::uplink_rate(size_t tier) const {
  const double own = spec_.tiers[tier].uplink_gb_per_second;
  return own > 0 ? own : spec_.nic_gb_per_second;
}

int64_t FlowLevelNetwork::planes(size_t tier) const {
  const int64_t rails = spec_.rail_optimized ? spec_.domain_gpus : 1;
  const NetworkTier& own = spec_.tiers[tier];
  // What comes from below one switch, over the oversubscription, in uplinks.
  double below = static_cast<double>(own.gpus) / static_cast<double>(rails) * spec_.nic_gb_per_second;
  if (tier > 0) {
    const int64_t links = own.gpus / spec_.tiers[tier - 1].gpus * (tier == 1 ? rails : 1);
    below = static_cast<double>(links) * uplink_rate(tier - 1);
  }
  return std::max<int64_t>(1, static_cast<int64_t>(below / own.oversubscription / uplink_rate(tier) + 0.5));
}

FlowLevelNetwork::Path FlowLevelNetwork::path(int64_t from, int64_t to, uint64_t hash) {
  const auto key = [](LinkKind kind, uint64_t place) { return mixed(kind, place); };
  const auto domain_link = [&](LinkKind kind, int64_t gpu) {
    return link(key(kind, static_cast<uint64_t>(gpu)), spec_.domain_gb_per_second);
  };
  if (from < 0) return {domain_link(kDomainIn, to)};
  if (to < 0) return {domain_link(kDomainOut, from)};
  if (from / spec_.domain_gpus == to / spec_.domain_gpus) {
    return {domain_link(kDomainOut, from), domain_link(kDomainIn, to)};
  }
  const auto nic_link = [&](LinkKind kind, int64_t gpu) {
    return link(key(kind, static_cast<uint64_t>(gpu / spec_.gpus_per_nic)),
                spec_.nic_gb_per_second * static_cast<double>(spec_.gpus_per_nic));
  };
  Path links = {nic_link(kNicOut, from)};
  const auto first_switch = [&](int64_t gpu) {
    const uint64_t rail = spec_.rail_optimized ? static_cast<uint64_t>(gpu % spec_.domain_gpus) : 0;
    return spec_.tiers.empty() ? 0 : mixed(static_cast<uint64_t>(gpu / spec_.tiers[0].gpus), rail);
  };
  uint64_t up = first_switch(from);
  uint64_t down = first_switch(to);
  uint64_t taken = 0;  // the planes so far: with its group they name a switch of a higher tier
  Path descent;
  for (size_t t = 0; up != down && t + 1 < spec_.tiers.size(); ++t) {
    const double rate = uplink_rate(t);
    const auto count = static_cast<uint64_t>(planes(t));
    const uint64_t plane = hash % count;
    hash /= count;
    links.push_back(link(key(kUp, mixed(mixed(t, up), plane)), rate));
    descent.push_back(link(key(kDown, mixed(mixed(t, down), plane)), rate));
    taken = mixed(taken, plane);
    const auto above = [&](int64_t gpu) {
      return mixed(mixed(t + 1, static_cast<uint64_t>(gpu / spec_.tiers[t + 1].gpus)), taken);
    };
    up = above(from);
    down = above(to);
  }
  links.insert(links.end(), descent.rbegin(), descent.rend());
  links.push_back(nic_link(kNicIn, to));
  return links;
}

std::vector<double> max_min_rates(std::span<const std::vector<int32_t>> paths, std::span<const double> capacities) {
  std::vector<double> rates(paths.size(), 0.0);
  std::vector<double> left(capacities.begin(), capacities.end());
  std::vector<std::vector<int32_t>> users(capacities.size());
  std::vector<int32_t> waiting(capacities.size(), 0);  // flows on a link that have no rate yet
  for (size_t flow = 0; flow < paths.size(); ++flow) {
    for (const int32_t link : paths[flow]) {
      users[static_cast<size_t>(link)].push_back(static_cast<int32_t>(flow));
      ++waiting[static_cast<size_t>(link)];
    }
  }
  std::vector<bool> done(paths.size(), false);
  for (;;) {
    size_t tightest = capacities.size();
    double share = std::numeric_limits<double>::infinity();
    for (size_t link = 0; link < capacities.size(); ++link) {
      if (waiting[link] == 0) continue;
      const double fair = std::max(0.0, left[link]) / waiting[link];
      if (fair < share) {
        share = fair;
        tightest = link;
      }
    }
    if (tightest == capacities.size()) return rates;
    for (const int32_t user : users[tightest]) {
      const auto flow = static_cast<size_t>(user);
      if (done[flow]) continue;
      done[flow] = true;
      rates[flow] = share;
      for (const int32_t link : paths[flow]) {
        left[static_cast<size_t>(link)] -= share;
        --waiting[static_cast<size_t>(link)];
      }
    }
  }
}

std::vector<double> FlowLevelNetwork::finish_seconds(std::span<const NetworkFlow> flows, uint64_t seed) {
  const bool spread = spec_.routing == Routing::kAdaptive;
  int64_t parts = spec_.queue_pairs;
  if (spread) {
    parts = 1;
    for (size_t t = 0; t + 1 < spec_.tiers.size(); ++t) parts *= planes(t);
  }
  std::vector<Path> paths;
  std::vector<double> left;
  for (size_t flow = 0; flow < flows.size(); ++flow) {
    for (int64_t part = 0; part < parts; ++part) {
      const auto index = static_cast<uint64_t>(part);
      paths.push_back(path(flows[flow].from, flows[flow].to, spread ? index : mixed(mixed(seed, flow), index)));
      left.push_back(flows[flow].bytes / static_cast<double>(parts));
    }
  }
  std::vector<double> finish(flows.size(), 0.0);
  std::vector<size_t> active(paths.size());
  for (size_t i = 0; i < active.size(); ++i) active[i] = i;
  double now = 0;
  while (!active.empty()) {
    std::vector<Path> active_paths;
    for (const size_t part : active) active_paths.push_back(paths[part]);
    const std::vector<double> rates = max_min_rates(active_paths, rates_);
    double step = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < active.size(); ++i) step = std::min(step, left[active[i]] / rates[i]);
    now += step;
    std::vector<size_t> still;
    for (size_t i = 0; i < active.size(); ++i) {
      const size_t part = active[i];
      const double whole = flows[part / static_cast<size_t>(parts)].bytes / static_cast<double>(parts);
      left[part] -= rates[i] * step;
      if (left[part] > 1e-9 * whole) {
        still.push_back(part);
      } else {
        finish[part / static_cast<size_t>(parts)] = now;
      }
    }
    active = std::move(still);
  }
  return finish;
}

double FlowLevelNetwork::slowest_seconds(std::span<const NetworkFlow> flows, uint64_t seed) {
  const std::vector<double> finish = finish_seconds(flows, seed);
  return finish.empty() ? 0 : *std::max_element(finish.begin(), finish.end());
}

}  // namespace colossus
