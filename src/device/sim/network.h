// How long a collective or a transfer takes between the GPUs of a cluster: NCCL's algorithms, priced by a few physical
// parameters. docs/simulator.md derives the formulas and has the accuracy against published measurements.
//
//   const Network network(cluster.network);
//   const PlacedGroup group = network.place(place_group(cluster.network, gpus));  // once for a group; microseconds
//   const double seconds = group.time_of(CollectiveKind::kAllReduce, bytes_sent).seconds;  // tens of nanoseconds
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "device/sim/group_placement.h"
#include "device/sim/hardware.h"

namespace colossus {

enum class CollectiveKind : uint8_t { kAllReduce, kAllGather, kReduceScatter, kAllToAll, kBroadcast, kSend };
inline constexpr std::array kCollectiveKinds = {CollectiveKind::kAllReduce,     CollectiveKind::kAllGather,
                                                CollectiveKind::kReduceScatter, CollectiveKind::kAllToAll,
                                                CollectiveKind::kBroadcast,     CollectiveKind::kSend};
std::string_view collective_name(CollectiveKind kind);

// What hardware and library make of the data sheet. "Fitted": by bench/network_fit.cc over the rows of
// configs/validation/collectives.csv that are marked so. "NCCL": from the table its tuner chooses by
// (src/graph/tuning.cc).
struct NetworkCalibration {
  double launch_us = 8.7;          // fitted: of the kernel, and until all ranks are there
  double chunk_domain_us = 1.8;    // fitted: of a hop that hands over whole chunks, beyond a flag's; NCCL: 3.4 - 0.6
  double chunk_network_us = 9.6;   // fitted: the same through a NIC, with its proxy and flush; NCCL: 14 - 2.7
  double proxy_us = 3.3;           // fitted: least time of a step of a ring with NICs in it; NCCL: 1 to 6
  double flagged_fraction = 0.25;  // NCCL: of bandwidth, where flags travel in the data (LL)
  double domain_efficiency = 0.8;  // of NVLink's, for copies and rings: measured on A100 0.78, H100 0.82, B200 0.76
  double in_switch_efficiency = 1.09;  // fitted: of NVLink's, in units of what a ring would send for the same sum
  double in_switch_peer_us = 1.2;      // fitted: for each member that an in-switch reduction waits for; NCCL: 23 in all
  double nic_efficiency = 0.97;        // fitted: headers, acknowledgements
  double tree_efficiency = 0.92;       // NCCL
  double pat_efficiency = 0.75;        // NCCL
  double domain_fill = 0.93;           // fitted: how much of the latency within domains is paid again by each chunk
  double network_fill = 0.62;          // fitted: the same between domains
  double message_us = 0.19;            // fitted: for each remote peer of an all-to-all
  double adaptive_efficiency = 0.95;   // NVIDIA's claim for Spectrum-X: 95% of a full fabric
  double peers_at_once = 8;            // of an all-to-all: what kEcmp hashes beside queue pairs
  // Kernels post what they send to the NIC themselves (DeepEP, NCCL's device API): for all-to-alls.
  bool device_initiated = false;
};

struct TransferTime {
  double seconds = 0;
  double latency_seconds = 0;    // for no bytes at all
  double bandwidth_seconds = 0;  // the rest
  std::string_view algorithm;    // static
};

// One way to do it, in terms of b = the bytes that each rank sends as the operation is defined (Cost::bytes_sent),
// whatever this algorithm makes of them:
//   seconds = latency + t + 2 * sqrt(fill * t),  t = b * seconds_per_byte
// The root is what filling a pipeline costs whose chunks are as large as is best: see docs/simulator.md.
struct CollectiveAlgorithm {
  std::string_view name;
  double latency_seconds = 0;
  double seconds_per_byte = 0;
  double fill_seconds = 0;

  double seconds(double bytes_sent) const;
};

// A group whose links are known: all that depends on the placement is computed once.
class PlacedGroup {
 public:
  // `bytes_sent`: by each rank (broadcast and send: by the one that has it). `imbalance`, of an all-to-all: what the
  // fullest rank sends or gets, over the mean. The fastest algorithm counts, as the library's tuner has it.
  TransferTime time_of(CollectiveKind kind, double bytes_sent, double imbalance = 1) const;

  const std::vector<CollectiveAlgorithm>& algorithms(CollectiveKind kind) const {
    return algorithms_[static_cast<size_t>(kind)];
  }

 private:
  friend class Network;
  std::array<std::vector<CollectiveAlgorithm>, kCollectiveKinds.size()> algorithms_;
};

class Network {
 public:
  explicit Network(NetworkSpec spec, NetworkCalibration calibration = {});  // a spec that check_fields passed

  const NetworkSpec& spec() const { return spec_; }
  const NetworkCalibration& calibration() const { return calibration_; }

  PlacedGroup place(const GroupPlacement& placement) const;

 private:
  NetworkSpec spec_;
  NetworkCalibration calibration_;
};

// How large what nccl-tests calls `size` is for which each of `ranks` sends `bytes_sent`, and the other way round.
double bytes_sent_of_size(CollectiveKind kind, double size, int64_t ranks);

}  // namespace colossus
