// Where the ranks of a group lie on a cluster: what a collective's time depends on beside its size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/sim/hardware.h"

namespace colossus {

// A group of ranks as the axes of a mesh give it: first + i0 * stride0 + i1 * stride1 + ..., all i below their sizes.
// GPUs are numbered domain by domain; rank and GPU are the same number.
struct MeshGroup {
  struct Axis {
    int64_t size = 1;
    int64_t stride = 1;
  };
  int64_t first = 0;
  std::vector<Axis> axes;

  int64_t members() const;
  std::vector<int64_t> gpus() const;  // rising
};

// Who else communicates while a group does.
enum class Siblings {
  kAll,   // every other GPU, in a group of the same kind: the ranks of one program
  kNone,  // nobody
};

struct GroupPlacement {
  int64_t members = 1;
  int64_t domains = 1;  // of NVLink, that have members
  int64_t most_in_domain = 1;
  int64_t least_in_domain = 1;
  // For each tier of the network, its groups of switches that have members: 1 where nothing goes higher.
  std::vector<int64_t> tier_groups;
  Siblings siblings = Siblings::kAll;

  double members_per_domain() const { return static_cast<double>(members) / static_cast<double>(domains); }
};

// `gpus` in any order, each once, not empty. A few nanoseconds for each member.
GroupPlacement place_group(const NetworkSpec& spec, std::span<const int64_t> gpus, Siblings siblings = Siblings::kAll);
GroupPlacement place_group(const NetworkSpec& spec, const MeshGroup& group, Siblings siblings = Siblings::kAll);

}  // namespace colossus
