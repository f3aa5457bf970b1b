// The network model against a simulation packet by packet (packet_network.h), on networks small enough for one.
//   packet_check [--megabytes 4] [--seeds 10]      one JSON line for each case: seconds by packets, ours, their ratio
//
// Switches forward whole packets of 4 KiB and lose none. A transport like RDMA's: a sender has a window of packets
// under way, every fourth is acknowledged. kEcmp: a queue pair's packets
// take one path, drawn; kAdaptive: each packet leaves through the uplink with the shortest queue.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "device/sim/collective_steps.h"
#include "device/sim/flow_level.h"
#include "device/sim/network.h"
#include "packet_network.h"

namespace colossus {
namespace {

constexpr double kGbPerSecond = kPacketLinkBytesPerSecond / 1e9;

// What PacketNetwork calls by this number.
int64_t packet_queue_pairs(Routing routing, int64_t queue_pairs) {
  return routing == Routing::kAdaptive ? 0 : queue_pairs;
}

NetworkSpec spec_of(const Fabric& fabric, Routing routing, int64_t queue_pairs, double latency_us) {
  return {
      .domain_gpus = 1,
      .domain_gb_per_second = 1000,
      .nic_gb_per_second = kGbPerSecond,
      .nic_latency_us = latency_us,
      .rail_optimized = false,
      .routing = routing,
      .queue_pairs = queue_pairs,
      .tiers = {{.name = "leaf",
                 .gpus = fabric.hosts_per_leaf,
                 .oversubscription = static_cast<double>(fabric.hosts_per_leaf) / static_cast<double>(fabric.spines)},
                {.name = "spine", .gpus = fabric.hosts()}}};
}

// All at once: when the last is through.
double packet_seconds(const Fabric& fabric, const std::vector<NetworkFlow>& flows, Routing routing, int64_t queue_pairs,
                      uint64_t seed) {
  PacketNetwork network(fabric, seed);
  double last = 0;
  for (const NetworkFlow& flow : flows)
    network.send(flow.from, flow.to, flow.bytes, packet_queue_pairs(routing, queue_pairs),
                 [&] { last = network.now(); });
  network.run();
  return last;
}

// Rings of reduce-scatter and all-gather: a member hands a chunk on when it has it.
double packet_ring_seconds(const Fabric& fabric, const std::vector<std::vector<int64_t>>& rings, double size,
                           Routing routing, int64_t queue_pairs, uint64_t seed) {
  PacketNetwork network(fabric, seed);
  double last = 0;
  std::function<void(const std::vector<int64_t>&, size_t, size_t)> pass = [&](const std::vector<int64_t>& ring,
                                                                              size_t member, size_t step) {
    const size_t next = (member + 1) % ring.size();
    network.send(ring[member], ring[next], size / static_cast<double>(ring.size()),
                 packet_queue_pairs(routing, queue_pairs), [&, next, step] {
                   last = network.now();
                   if (step + 1 < 2 * (ring.size() - 1)) pass(ring, next, step + 1);
                 });
  };
  for (const std::vector<int64_t>& ring : rings)
    for (size_t member = 0; member < ring.size(); ++member) pass(ring, member, 0);
  network.run();
  return last;
}

void report(const std::string& what, double packets, double ours) {
  std::printf("{\"case\": \"%s\", \"by_packets_us\": %.2f, \"ours_us\": %.2f, \"ours_over_packets\": %.3f}\n",
              what.c_str(), packets * 1e6, ours * 1e6, ours / packets);
  std::fflush(stdout);
}

class Cases {
 public:
  Cases(double bytes, int seeds) : bytes_(bytes), seeds_(seeds) {
    // The way of one packet through the empty network is what a data sheet calls latency.
    const double one_packet = packet_seconds(fabric_, {{0, last_host(), kPacketBytes}}, Routing::kAdaptive, 1, 1);
    latency_ = one_packet - kPacketBytes / (kGbPerSecond * 1e9);
  }

  void run() const {
    few_flows();
    for (const Routing routing : {Routing::kAdaptive, Routing::kEcmp}) {
      for (const int64_t queue_pairs : routing == Routing::kEcmp ? std::vector<int64_t>{1, 4} : std::vector<int64_t>{1})
        everybody_to_another_leaf(routing, queue_pairs);
      rings(routing);
      all_to_all(routing);
    }
  }

 private:
  int64_t last_host() const { return fabric_.hosts() - 1; }
  double mean_of_seeds(const std::function<double(uint64_t)>& seconds) const {
    double sum = 0;
    for (int seed = 1; seed <= seeds_; ++seed) sum += seconds(static_cast<uint64_t>(seed));
    return sum / seeds_;
  }
  double flow_level(const NetworkSpec& spec, const std::vector<NetworkFlow>& flows) const {
    return latency_ + mean_of_seeds([&](uint64_t seed) { return FlowLevelNetwork(spec).slowest_seconds(flows, seed); });
  }
  static std::string of(Routing routing, int64_t queue_pairs) {
    return routing == Routing::kAdaptive ? "adaptive" : "hashed, queue pairs: " + std::to_string(queue_pairs);
  }

  void few_flows() const {
    const std::map<std::string, std::vector<NetworkFlow>> all = {
        {"one transfer", {{0, last_host(), bytes_}}},
        {"three into one", {{0, 31, bytes_}, {8, 31, bytes_}, {16, 31, bytes_}}},
        {"a long and a short one into one", {{0, 31, bytes_}, {8, 31, bytes_ / 4}}},
        {"two from one, one of them met by a third", {{0, 31, bytes_}, {0, 23, bytes_}, {9, 23, bytes_}}},
    };
    for (const auto& [what, flows] : all)
      report(what, packet_seconds(fabric_, flows, Routing::kAdaptive, 1, 1),
             flow_level(spec_of(fabric_, Routing::kAdaptive, 1, 0), flows));
  }

  void everybody_to_another_leaf(Routing routing, int64_t queue_pairs) const {
    for (const int64_t spines : {int64_t{8}, int64_t{4}}) {
      Fabric fabric = fabric_;
      fabric.spines = spines;
      std::vector<NetworkFlow> flows;
      for (int64_t host = 0; host < fabric.hosts(); ++host)
        flows.push_back({host, (host + fabric.hosts_per_leaf) % fabric.hosts(), bytes_});
      report("everybody to the next leaf, " + std::to_string(spines) + " spines, " + of(routing, queue_pairs),
             mean_of_seeds([&](uint64_t seed) { return packet_seconds(fabric, flows, routing, queue_pairs, seed); }),
             flow_level(spec_of(fabric, routing, queue_pairs, 0), flows));
    }
  }

  // One ring through every leaf for each host of a leaf, all at once.
  void rings(Routing routing) const {
    std::vector<std::vector<int64_t>> members(static_cast<size_t>(fabric_.hosts_per_leaf));
    for (int64_t host = 0; host < fabric_.hosts(); ++host)
      members[static_cast<size_t>(host % fabric_.hosts_per_leaf)].push_back(host);
    const int64_t queue_pairs = 4;
    const double size = 4 * bytes_;
    const NetworkSpec spec = spec_of(fabric_, routing, queue_pairs, latency_ * 1e6);
    const MeshGroup group = {.axes = {{.size = fabric_.leaves, .stride = fabric_.hosts_per_leaf}}};
    NetworkCalibration nothing_lost{.launch_us = 0,
                                    .chunk_network_us = 0,
                                    .proxy_us = 0,
                                    .nic_efficiency = 1,
                                    .network_fill = 0,
                                    .message_us = 0,
                                    .adaptive_efficiency = 1};
    const PlacedGroup placed = Network(spec, nothing_lost).place(place_group(spec, group));
    double ours = 0;
    const double sent = bytes_sent_of_size(CollectiveKind::kAllReduce, size, fabric_.leaves);
    for (const CollectiveAlgorithm& algorithm : placed.algorithms(CollectiveKind::kAllReduce))
      if (algorithm.name == "ring") ours = algorithm.seconds(sent);
    report("8 rings of 4 at once, " + of(routing, queue_pairs), mean_of_seeds([&](uint64_t seed) {
             return packet_ring_seconds(fabric_, members, size, routing, queue_pairs, seed);
           }),
           ours);
  }

  void all_to_all(Routing routing) const {
    std::vector<NetworkFlow> flows;
    for (int64_t from = 0; from < fabric_.hosts(); ++from)
      for (int64_t distance = 1; distance < fabric_.hosts(); ++distance)
        flows.push_back({from, (from + distance) % fabric_.hosts(), bytes_ / 8});
    report("all to all, " + of(routing, 1),
           mean_of_seeds([&](uint64_t seed) { return packet_seconds(fabric_, flows, routing, 1, seed); }),
           flow_level(spec_of(fabric_, routing, 1, 0), flows));
  }

  const Fabric fabric_;
  const double bytes_;
  const int seeds_;
  double latency_ = 0;
};

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  double megabytes = 4;
  int seeds = 10;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 < argc && name == "--megabytes") {
      megabytes = std::atof(argv[i + 1]);
    } else if (i + 1 < argc && name == "--seeds") {
      seeds = std::atoi(argv[i + 1]);
    } else {
      std::fprintf(stderr, "%s [--megabytes 4] [--seeds 10]\n", argv[0]);
      return 2;
    }
  }
  if (!(megabytes > 0) || seeds < 1) {
    std::fprintf(stderr, "--megabytes and --seeds must be above 0\n");
    return 2;
  }
  colossus::Cases(megabytes * 1048576, seeds).run();
  return 0;
}
