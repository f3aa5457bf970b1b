// How badly flows share links when switches choose among equal paths by hash.
#pragma once

#include <span>

namespace colossus {

// What is hashed on to the links of one tier.
struct HashedFlows {
  double links_load = 0;      // flows over links, in units of what a link carries: 1 when everybody sends through it
  double parts_per_link = 1;  // parts of flows (queue pairs), each hashed on its own, that fill a link
  double hashed = 1;  // parts that are waited for, times the links of this tier that each of them is hashed on to
};

// The expected time of the slowest part that is waited for over its time alone, at least 1. A part finds Poisson-many
// others on each of its links (balls into bins; Raab & Steger 1998), a link shares itself evenly, and a synchronous
// collective waits for the part on the fullest link: E[max] is the integral of 1 - P(all links are emptier than x).
double expected_slowdown(std::span<const HashedFlows> tiers);

}  // namespace colossus
