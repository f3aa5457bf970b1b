// How badly flows share links when switches choose among equal paths by hash.
#pragma once

#include <span>

namespace colossus {

// What is hashed on to the links of one tier.
struct HashedFlows {
  double links_load = 0;      // flows over links, in units of what a link carries: 1 when everybody sends through it
  double parts_per_link = 1;  // parts of flows (queue pairs), each hashed on its own, that fill a link
  double links = 1;           // that are hashed on to
  double waited_for = 1;      // share of all the parts; others are in the way only
};

// The expected time of the slowest part that is waited for over its time alone, at least 1. A link carries Poisson-many
// parts (balls into bins; Raab & Steger 1998) and shares itself evenly among them; a synchronous collective waits for
// the fullest link that carries a part of its own. E[max] is the integral of 1 - P(all such links are emptier than x).
double expected_slowdown(std::span<const HashedFlows> tiers);

}  // namespace colossus
