// The ranks of a run as one of them sees them.
#pragma once

#include <memory>
#include <string>

#include "comm/rank_groups.h"
#include "parallel/mesh.h"

namespace colossus {

// All ranks of a run, where they are more than those of another group: what is neither gradients nor activations.
inline constexpr RankGroup kWorld = {};
// What the update is shared over.
inline constexpr RankGroup kUpdateRanks = RankGroup::along({MeshAxis::kData, MeshAxis::kShard});

struct Ranks {
  Mesh mesh{MeshConfig{}};
  int64_t rank = 0;
  RankGroups groups;                          // those of groups_of()
  std::unique_ptr<Communicator> checkpoints;  // all ranks once more: checkpoints are written beside the steps
  std::unique_ptr<Communicator> copies;       // where no other rank has the same state: whom to hand copies to

  int copy_distance = 1;  // along `copies`, to a rank on another machine

  int64_t size() const { return mesh.size(); }
  bool first() const { return rank == 0; }
  // All ranks, between the steps; null for a run of one. Sums of an evaluation go over it.
  Communicator* world() const {
    Communicator* all = groups.find(kWorld);
    return all ? all : groups.find(kUpdateRanks);
  }
};

// The groups of a layout, each by its key and the ranks it has for `rank`, in an order that is the same on all ranks.
// Groups that would have the same ranks are one: connections are many, and lanes of one exchange gain nothing.
struct GroupMembers {
  RankGroup group;
  std::vector<int64_t> ranks;
};
std::vector<GroupMembers> groups_of(const Mesh& mesh, int64_t rank);

struct JoinOptions {
  double timeout_seconds = 60;  // of each wait once they have met
  double join_seconds = 20;     // to meet
  std::string interface;        // see join_gloo_group
};

// Meets the other ranks of the mesh in `store`, under keys that begin with `key`, which no earlier meeting used.
Result<std::unique_ptr<Ranks>> join_ranks(const Mesh& mesh, int64_t rank, KeyValueStore& store, const std::string& key,
                                          const JoinOptions& options);

// The same for threads of this process: by rank.
std::vector<std::unique_ptr<Ranks>> make_thread_ranks(const Mesh& mesh, double timeout_seconds);

}  // namespace colossus
