// What communication costs a layout on a cluster: its groups of ranks, placed on the network.
#pragma once

#include <map>

#include "device/sim/kernel_work.h"
#include "device/sim/network.h"
#include "parallel/mesh.h"
#include "plan/layout.h"

namespace colossus {

// Rank r is GPU r. Not for several threads at once.
class LayoutNetwork {
 public:
  // The network outlives it.
  LayoutNetwork(const Network& network, const MeshConfig& mesh, int64_t num_experts_per_token,
                const StackConfig& stack);

  // Each rank of the group sends so many bytes, while all other ranks do the same in theirs.
  double seconds(RankGroup group, Exchange exchange, double bytes_sent);

 private:
  struct Placed {
    PlacedGroup group;
    int64_t domains = 1;
  };
  const Placed& placed(RankGroup group);
  double share_sent_once(const Placed& group) const;
  double seconds_of_rows(RankGroup group, double bytes_sent);

  const Network& network_;
  const Mesh mesh_;
  const int64_t num_experts_per_token_;
  const bool deduplication_;  // a row that meets several experts on one machine goes there once
  const bool gathering_;      // a row goes to one of an expert's ranks, and from there to the others
  std::map<RankGroup, Placed> placed_;
};

}  // namespace colossus
