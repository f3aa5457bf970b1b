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

// Up to where both ends stand below one switch, and down again.
void FlowLevelNetwork::climb(int64_t from, int64_t to, uint64_t hash, Path& links) {
  if (spec_.tiers.empty()) return;
  const bool adaptive = spec_.routing == Routing::kAdaptive;
  const auto rails = static_cast<uint64_t>(spec_.rail_optimized ? spec_.domain_gpus : 1);
  const auto first_switch = [&](int64_t gpu) {
    return mixed(static_cast<uint64_t>(gpu / spec_.tiers[0].gpus), static_cast<uint64_t>(gpu) % rails);
  };
  uint64_t up = first_switch(from);
  uint64_t down = first_switch(to);
  // A switch of a higher tier is known by its group and the planes taken to it; with kAdaptive all of a group are one.
  uint64_t taken = 0;
  double together = static_cast<double>(spec_.tiers[0].gpus) / static_cast<double>(rails) * spec_.nic_gb_per_second;
  Path descent;
  for (size_t t = 0; up != down && t + 1 < spec_.tiers.size(); ++t) {
    together /= spec_.tiers[t].oversubscription;
    const uint64_t plane = adaptive ? 0 : mixed(hash, t) % static_cast<uint64_t>(planes(t));
    const double rate = adaptive ? together : uplink_rate(t);
    links.push_back(link(mixed(mixed(kUp, t), mixed(up, plane)), rate));
    descent.push_back(link(mixed(mixed(kDown, t), mixed(down, plane)), rate));
    taken = mixed(taken, plane);
    const int64_t above = spec_.tiers[t + 1].gpus;
    up = mixed(mixed(t + 1, static_cast<uint64_t>(from / above)), taken);
    down = mixed(mixed(t + 1, static_cast<uint64_t>(to / above)), taken);
    together *= static_cast<double>(above / spec_.tiers[t].gpus) * (t == 0 ? static_cast<double>(rails) : 1);
  }
  links.insert(links.end(), descent.rbegin(), descent.rend());
}

FlowLevelNetwork::Path FlowLevelNetwork::path(int64_t from, int64_t to, uint64_t hash) {
  const auto domain_link = [&](LinkKind kind, int64_t gpu) {
    return link(mixed(kind, static_cast<uint64_t>(gpu)), spec_.domain_gb_per_second);
  };
  if (from < 0) return {domain_link(kDomainIn, to)};
  if (to < 0) return {domain_link(kDomainOut, from)};
  if (from / spec_.domain_gpus == to / spec_.domain_gpus) {
    return {domain_link(kDomainOut, from), domain_link(kDomainIn, to)};
  }
  const auto nic_link = [&](LinkKind kind, int64_t gpu) {
    return link(mixed(kind, static_cast<uint64_t>(gpu / spec_.gpus_per_nic)),
                spec_.nic_gb_per_second * static_cast<double>(spec_.gpus_per_nic));
  };
  Path links = {nic_link(kNicOut, from)};
  climb(from, to, hash, links);
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

FlowLevelNetwork::Parts FlowLevelNetwork::cut(std::span<const NetworkFlow> flows, uint64_t seed) {
  Parts parts;
  for (size_t flow = 0; flow < flows.size(); ++flow) {
    const NetworkFlow& whole = flows[flow];
    const bool hashed = spec_.routing == Routing::kEcmp && whole.from >= 0 && whole.to >= 0 &&
                        whole.from / spec_.domain_gpus != whole.to / spec_.domain_gpus;
    const int64_t count = hashed ? spec_.queue_pairs : 1;
    for (int64_t part = 0; part < count; ++part) {
      const uint64_t hash = mixed(mixed(seed, flow), static_cast<uint64_t>(part));
      parts.paths.push_back(path(whole.from, whole.to, hash));
      parts.bytes.push_back(whole.bytes / static_cast<double>(count));
      parts.flow.push_back(flow);
    }
  }
  return parts;
}

std::vector<double> FlowLevelNetwork::finish_seconds(std::span<const NetworkFlow> flows, uint64_t seed) {
  Parts parts = cut(flows, seed);
  std::vector<double> left = parts.bytes;
  std::vector<double> finish(flows.size(), 0.0);
  double now = 0;
  while (!left.empty()) {
    const std::vector<double> rates = max_min_rates(parts.paths, rates_);
    double step = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < left.size(); ++i) step = std::min(step, left[i] / rates[i]);
    now += step;
    size_t kept = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      left[i] -= rates[i] * step;
      if (left[i] <= 1e-9 * parts.bytes[i]) {
        finish[parts.flow[i]] = now;
        continue;
      }
      left[kept] = left[i];
      parts.bytes[kept] = parts.bytes[i];
      parts.flow[kept] = parts.flow[i];
      std::swap(parts.paths[kept], parts.paths[i]);
      ++kept;
    }
    left.resize(kept);
    parts.bytes.resize(kept);
    parts.flow.resize(kept);
    parts.paths.resize(kept);
  }
  return finish;
}

double FlowLevelNetwork::slowest_seconds(std::span<const NetworkFlow> flows, uint64_t seed) {
  const std::vector<double> finish = finish_seconds(flows, seed);
  return finish.empty() ? 0 : *std::max_element(finish.begin(), finish.end());
}

double FlowLevelNetwork::busiest_seconds(std::span<const NetworkFlow> flows, uint64_t seed) {
  const Parts parts = cut(flows, seed);
  std::vector<double> bytes(rates_.size(), 0.0);
  for (size_t i = 0; i < parts.paths.size(); ++i) {
    for (const int32_t link : parts.paths[i]) bytes[static_cast<size_t>(link)] += parts.bytes[i];
  }
  double busiest = 0;
  for (size_t link = 0; link < bytes.size(); ++link) busiest = std::max(busiest, bytes[link] / rates_[link]);
  return busiest;
}

}  // namespace colossus
