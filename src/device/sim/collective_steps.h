// The messages of NCCL's algorithms, one by one: for the flow-level model of a network, and to hold the formulas of
// network.h to what really goes over the links.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/sim/flow_level.h"
#include "device/sim/hardware.h"
#include "device/sim/network.h"

namespace colossus {

// `from` hands `to` a chunk, which `to` adds to its own or keeps instead. Endpoints as in flow_level.h. What a chunk is
// depends on the collective:
//   all_reduce                  the i-th part of the buffer
//   all_gather, reduce_scatter  the i-th part of the buffer; chunk / chunks_of_member says whose it is
//   all_to_all                  what the (chunk / n)-th member has for the (chunk % n)-th
struct CollectiveStep {
  int64_t from = 0;
  int64_t to = 0;
  int64_t chunk = 0;
  bool add = false;
  double bytes = 0;
};

// In an order in which they can be done one after the other. `gpus` rise; `size` is what nccl-tests calls so.
// As many rings, trees and rails as the domain with the fewest members has members.
std::vector<CollectiveStep> ring_steps(CollectiveKind kind, std::span<const int64_t> gpus, int64_t domain_gpus,
                                       double size);  // or all_gather, reduce_scatter
std::vector<CollectiveStep> tree_steps(std::span<const int64_t> gpus, int64_t domain_gpus, double size);  // all_reduce
// The domains' switches add; trees between domains.
std::vector<CollectiveStep> in_switch_steps(std::span<const int64_t> gpus, int64_t domain_gpus, double size);
std::vector<CollectiveStep> all_to_all_steps(const NetworkSpec& spec, std::span<const int64_t> gpus, double size);

// What goes from one GPU to another, all of it as one flow: a pipelined algorithm has all its links busy at once.
std::vector<NetworkFlow> flows_of(std::span<const CollectiveStep> steps);

}  // namespace colossus
