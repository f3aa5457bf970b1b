#include "device/sim/collective_steps.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"

namespace colossus {
namespace {

// Members of each domain, in order.
std::vector<std::vector<int64_t>> by_domain(std::span<const int64_t> gpus, int64_t domain_gpus) {
  std::vector<std::vector<int64_t>> domains;
  for (const int64_t gpu : gpus) {
    if (domains.empty() || domains.back().back() / domain_gpus != gpu / domain_gpus) domains.emplace_back();
    domains.back().push_back(gpu);
  }
  return domains;
}

int64_t channels_of(const std::vector<std::vector<int64_t>>& domains) {
  size_t fewest = domains.front().size();
  for (const auto& domain : domains) fewest = std::min(fewest, domain.size());
  return static_cast<int64_t>(fewest);
}

// The ring of one channel. A domain is entered at member `channel` and left at the one before it; every second domain
// the other way round, so that a hop between domains stays on one rail.
std::vector<int64_t> ring_order(const std::vector<std::vector<int64_t>>& domains, int64_t channel) {
  std::vector<int64_t> ring;
  for (size_t d = 0; d < domains.size(); ++d) {
    std::vector<int64_t> members = domains[d];
    std::rotate(members.begin(), members.begin() + channel, members.end());
    if (d % 2 == 1) std::reverse(members.begin(), members.end());
    ring.insert(ring.end(), members.begin(), members.end());
  }
  return ring;
}

// parent[i] of a binary tree over [0, count) in which every even place is a leaf; -1: the root.
void join_in_order(int64_t begin, int64_t end, int64_t parent, std::vector<int64_t>& parents) {
  if (begin >= end) return;
  int64_t left = 1;  // the largest power of two up to the size: what lies left of the root is a full tree
  while (2 * left <= end - begin) left *= 2;
  const int64_t root = begin + left - 1;
  parents[static_cast<size_t>(root)] = parent;
  join_in_order(begin, root, root, parents);
  join_in_order(root + 1, end, root, parents);
}

// The tree, or its twin: who is within one is a leaf of the other.
std::vector<int64_t> tree_parents(int64_t count, bool twin) {
  std::vector<int64_t> plain(static_cast<size_t>(count));
  join_in_order(0, count, -1, plain);
  if (!twin) return plain;
  const auto moved = [count](int64_t place) { return count % 2 == 0 ? count - 1 - place : (place + 1) % count; };
  std::vector<int64_t> parents(plain.size());
  for (int64_t place = 0; place < count; ++place) {
    const int64_t parent = plain[static_cast<size_t>(place)];
    parents[static_cast<size_t>(moved(place))] = parent < 0 ? -1 : moved(parent);
  }
  return parents;
}

// Places in an order in which each comes behind all below it.
std::vector<int64_t> leaves_first(const std::vector<int64_t>& parents) {
  std::vector<std::pair<int64_t, int64_t>> by_depth;
  for (size_t place = 0; place < parents.size(); ++place) {
    int64_t depth = 0;
    for (int64_t at = parents[place]; at >= 0; at = parents[static_cast<size_t>(at)]) ++depth;
    by_depth.emplace_back(-depth, static_cast<int64_t>(place));
  }
  std::sort(by_depth.begin(), by_depth.end());
  std::vector<int64_t> order;
  for (const auto& [depth, place] : by_depth) order.push_back(place);
  return order;
}

// Sums of a chunk from the heads of domains to the root and back.
struct Tree {
  std::vector<int64_t> parents;
  std::vector<int64_t> heads;

  void up(int64_t chunk, double bytes, std::vector<CollectiveStep>& out) const {
    for (const int64_t place : leaves_first(parents)) {
      const int64_t parent = parents[static_cast<size_t>(place)];
      if (parent >= 0) {
        out.push_back({.from = heads[static_cast<size_t>(place)],
                       .to = heads[static_cast<size_t>(parent)],
                       .chunk = chunk,
                       .add = true,
                       .bytes = bytes});
      }
    }
  }
  void down(int64_t chunk, double bytes, std::vector<CollectiveStep>& out) const {
    std::vector<int64_t> order = leaves_first(parents);
    std::reverse(order.begin(), order.end());
    for (const int64_t place : order) {
      const int64_t parent = parents[static_cast<size_t>(place)];
      if (parent >= 0) {
        out.push_back({.from = heads[static_cast<size_t>(parent)],
                       .to = heads[static_cast<size_t>(place)],
                       .chunk = chunk,
                       .bytes = bytes});
      }
    }
  }
};

// One chunk for each of both trees and each channel; `inside(domain, head's place, chunk, up)` does what is done
// within.
template <class Inside>
std::vector<CollectiveStep> double_trees(const std::vector<std::vector<int64_t>>& domains, double size, Inside inside) {
  const int64_t channels = channels_of(domains);
  const double bytes = size / static_cast<double>(2 * channels);
  std::vector<CollectiveStep> out;
  for (int64_t chunk = 0; chunk < 2 * channels; ++chunk) {
    const auto head = static_cast<size_t>(chunk / 2);
    Tree tree{.parents = tree_parents(static_cast<int64_t>(domains.size()), chunk % 2 == 1), .heads = {}};
    for (const auto& domain : domains) tree.heads.push_back(domain[head]);
    for (const auto& domain : domains) inside(domain, head, chunk, bytes, true, out);
    tree.up(chunk, bytes, out);
    tree.down(chunk, bytes, out);
    for (const auto& domain : domains) inside(domain, head, chunk, bytes, false, out);
  }
  return out;
}

}  // namespace

std::vector<CollectiveStep> ring_steps(CollectiveKind kind, std::span<const int64_t> gpus, int64_t domain_gpus,
                                       double size) {
  CHECK(kind == CollectiveKind::kAllReduce || kind == CollectiveKind::kAllGather ||
        kind == CollectiveKind::kReduceScatter);
  const auto domains = by_domain(gpus, domain_gpus);
  const int64_t channels = channels_of(domains);
  const auto n = static_cast<int64_t>(gpus.size());
  const double bytes = size / static_cast<double>(n * channels);
  std::vector<CollectiveStep> out;
  for (int64_t channel = 0; channel < channels; ++channel) {
    const std::vector<int64_t> ring = ring_order(domains, channel);
    // Chunk `channel` of the member that stands at a place of the ring.
    const auto chunk_of = [&](int64_t place) {
      const int64_t gpu = ring[static_cast<size_t>(((place % n) + n) % n)];
      return (std::lower_bound(gpus.begin(), gpus.end(), gpu) - gpus.begin()) * channels + channel;
    };
    const auto round = [&](int64_t first, bool add) {
      for (int64_t step = 0; step + 1 < n; ++step) {
        for (int64_t place = 0; place < n; ++place) {
          out.push_back({.from = ring[static_cast<size_t>(place)],
                         .to = ring[static_cast<size_t>((place + 1) % n)],
                         .chunk = chunk_of(place + first - step),
                         .add = add,
                         .bytes = bytes});
        }
      }
    };
    // Sums start behind their owner and end with it; then owners' chunks go round.
    if (kind != CollectiveKind::kAllGather) round(-1, true);
    if (kind != CollectiveKind::kReduceScatter) round(0, false);
  }
  return out;
}

std::vector<CollectiveStep> tree_steps(std::span<const int64_t> gpus, int64_t domain_gpus, double size) {
  const auto chain = [](const std::vector<int64_t>& domain, size_t head, int64_t chunk, double bytes, bool up,
                        std::vector<CollectiveStep>& out) {
    std::vector<int64_t> members = domain;  // the head first
    std::rotate(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(head), members.end());
    for (size_t i = 1; i < members.size(); ++i) {
      const size_t at = up ? members.size() - i : i;
      out.push_back({.from = members[up ? at : at - 1],
                     .to = members[up ? at - 1 : at],
                     .chunk = chunk,
                     .add = up,
                     .bytes = bytes});
    }
  };
  return double_trees(by_domain(gpus, domain_gpus), size, chain);
}

std::vector<CollectiveStep> in_switch_steps(std::span<const int64_t> gpus, int64_t domain_gpus, double size) {
  const auto in_switch = [domain_gpus](const std::vector<int64_t>& domain, size_t head, int64_t chunk, double bytes,
                                       bool up, std::vector<CollectiveStep>& out) {
    const int64_t adder = domain_switch(domain.front() / domain_gpus);
    const auto add = [&](int64_t from, int64_t to, bool adds) {
      out.push_back({.from = from, .to = to, .chunk = chunk, .add = adds, .bytes = bytes});
    };
    if (up) {
      for (const int64_t member : domain) add(member, adder, true);
      add(adder, domain[head], false);
    } else {
      add(domain[head], adder, false);
      for (const int64_t member : domain) add(adder, member, false);
    }
  };
  return double_trees(by_domain(gpus, domain_gpus), size, in_switch);
}

std::vector<CollectiveStep> all_to_all_steps(const NetworkSpec& spec, std::span<const int64_t> gpus, double size) {
  const auto n = static_cast<int64_t>(gpus.size());
  const double bytes = size / static_cast<double>(n);
  std::vector<CollectiveStep> out;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      if (i == j) continue;
      int64_t from = gpus[static_cast<size_t>(i)];
      const int64_t to = gpus[static_cast<size_t>(j)];
      const int64_t chunk = i * n + j;
      const int64_t domain = from / spec.domain_gpus;
      const int64_t relay = domain * spec.domain_gpus + to % spec.domain_gpus;
      if (spec.rail_optimized && domain != to / spec.domain_gpus && relay != from) {
        out.push_back({.from = from, .to = relay, .chunk = chunk, .bytes = bytes});
        from = relay;
      }
      out.push_back({.from = from, .to = to, .chunk = chunk, .bytes = bytes});
    }
  }
  return out;
}

std::vector<NetworkFlow> flows_of(std::span<const CollectiveStep> steps) {
  std::map<std::pair<int64_t, int64_t>, double> bytes;
  for (const CollectiveStep& step : steps) bytes[{step.from, step.to}] += step.bytes;
  std::vector<NetworkFlow> flows;
  for (const auto& [ends, sum] : bytes) flows.push_back({.from = ends.first, .to = ends.second, .bytes = sum});
  return flows;
}

}  // namespace colossus
