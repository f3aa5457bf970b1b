// The ranks of a run as one of them sees them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/key_value_store.h"
#include "comm/rank_groups.h"
#include "parallel/leaf_shares.h"
#include "parallel/mesh.h"

namespace colossus {

// A group as one of its ranks sees it.
struct Peers {
  RankGroup group;
  int64_t ranks = 1;
  int64_t rank = 0;
};

// The groups of a layout, each by its key and the ranks it has for `rank`.
//   for the programs of a microbatch: along tensor, context, expert and expert_tensor, and links of the pipeline. Each
//     is a lane. Also those that exchange gradients and, with ZeRO 3, gather parameters beside the passes.
//   for the update, evaluation and what happens between steps: of those with the same ranks one, for programs run one
//     after another.
struct GroupMembers {
  RankGroup group;
  std::vector<int64_t> ranks;
};
std::vector<GroupMembers> groups_of(const Mesh& mesh, int64_t rank);

struct Ranks {
  Mesh mesh{MeshConfig{}};
  int64_t rank = 0;
  std::vector<GroupMembers> members;          // groups_of()
  RankGroups groups;                          // their ends
  std::unique_ptr<Communicator> checkpoints;  // all ranks once more: checkpoints are written beside the steps
  std::unique_ptr<Communicator> copies;       // all ranks, where some of the state is on no other rank

  std::vector<LeafRange> leaves;  // of data ranks; empty: equal shares
  int copy_distance = 1;          // along `copies`, to a rank on another machine
  std::string machine;            // where this rank is, for messages; "": it goes without saying

  int64_t size() const { return mesh.size(); }
  bool first() const { return rank == 0; }
  // Who reads its own rows: data x shard of them.
  int64_t num_data_ranks() const { return mesh.config().data * mesh.config().shard; }
  int64_t data_rank(int64_t of_rank) const {
    return mesh.coordinate(of_rank, MeshAxis::kData) * mesh.config().shard + mesh.coordinate(of_rank, MeshAxis::kShard);
  }
  int64_t data_rank() const { return data_rank(rank); }
  // This rank among these, in order of rank: a group of groups_of(), or itself alone. `lane`: kNone, or a lane beside
  // the passes (kGradients, kParameters).
  Peers peers(const std::vector<int64_t>& ranks, Link lane = Link::kNone) const;
  Peers all() const;
  // All ranks, between the steps; null for a run of one.
  Communicator* world() const { return groups.find(all().group); }
};

// A tied embedding's: on the pipeline's first and last stage.
inline constexpr RankGroup kEndRanks = [] {
  RankGroup group =
      RankGroup::along({MeshAxis::kPipeline, MeshAxis::kData, MeshAxis::kShard, MeshAxis::kContext, MeshAxis::kTensor});
  group.link = Link::kEnds;
  return group;
}();

// Of these the two at the same place of their stages.
inline constexpr RankGroup kEndPair = [] {
  RankGroup group = RankGroup::along({MeshAxis::kPipeline});
  group.link = Link::kEnds;
  return group;
}();

// The ranks of such a group that `rank` is in, in order.
std::vector<int64_t> ranks_along(const Mesh& mesh, int64_t rank, RankGroup axes);

struct JoinOptions {
  double timeout_seconds = 60;  // of each wait once they have met
  double join_seconds = 20;     // to meet
  std::string interface;        // see TcpNetwork
};

// Meets the other ranks of the mesh in `store`, under keys that begin with `key`, which no earlier meeting used.
Result<std::unique_ptr<Ranks>> join_ranks(const Mesh& mesh, int64_t rank, KeyValueStore& store, const std::string& key,
                                          const JoinOptions& options);

// The same for threads of this process: by rank.
std::vector<std::unique_ptr<Ranks>> make_thread_ranks(const Mesh& mesh, double timeout_seconds);

}  // namespace colossus
