// A network link by link: flows on paths, each link shared so that no flow can get more without another with as little
// getting less (max-min fairness, Bertsekas & Gallager 1992, 6.5.2: what congestion control aims at). For clusters of
// some thousand GPUs; network.h is for larger ones and is checked against this.
//
// Above the NICs lies a folded Clos network (fat tree): a switch of tier t has one uplink to each of its planes of tier
// t + 1, which has one link down to it. The planes chosen on the way up decide the way down.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "device/sim/hardware.h"

namespace colossus {

// Endpoints are GPUs, or, below zero, the NVLink switches of a domain.
inline constexpr int64_t domain_switch(int64_t domain) { return -1 - domain; }

struct NetworkFlow {
  int64_t from = 0;
  int64_t to = 0;
  double bytes = 0;
};

class FlowLevelNetwork {
 public:
  explicit FlowLevelNetwork(NetworkSpec spec) : spec_(std::move(spec)) {}

  // When each flow is through, all started at once, in seconds. Each is cut into `queue_pairs` parts; with kEcmp a
  // part's path is a hash of flow, part and `seed`, with kAdaptive a flow is spread evenly over all paths.
  std::vector<double> finish_seconds(std::span<const NetworkFlow> flows, uint64_t seed);
  double slowest_seconds(std::span<const NetworkFlow> flows, uint64_t seed);
  // How long the busiest link takes for all that goes over it: what flows of unequal size need at least, and no more
  // when, as those of one pipelined algorithm do, they go on in proportion.
  double busiest_seconds(std::span<const NetworkFlow> flows, uint64_t seed);

 private:
  using Path = std::vector<int32_t>;  // links
  struct Parts {
    std::vector<Path> paths;
    std::vector<double> bytes;
    std::vector<size_t> flow;
  };

  Parts cut(std::span<const NetworkFlow> flows, uint64_t seed);
  int32_t link(uint64_t key, double gb_per_second);
  Path path(int64_t from, int64_t to, uint64_t hash);
  void climb(int64_t from, int64_t to, uint64_t hash, Path& links);
  int64_t planes(size_t tier) const;      // uplinks of a switch of this tier
  double uplink_rate(size_t tier) const;  // GB/s

  NetworkSpec spec_;
  std::unordered_map<uint64_t, int32_t> links_;
  std::vector<double> rates_;  // of links, bytes / s
};

// The max-min fair rates of flows on these paths, in the unit of `capacities`. A flow without links has no limit: 0.
std::vector<double> max_min_rates(std::span<const std::vector<int32_t>> paths, std::span<const double> capacities);

}  // namespace colossus
