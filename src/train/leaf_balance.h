// Who computes how many leaves of a step when ranks are not equally fast, and which ranks these are: pure functions of
// what was measured. The shares change no bit (parallel/leaf_shares.h).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/leaf_shares.h"
#include "parallel/mesh.h"
#include "train/run_times.h"

namespace colossus {

// A rank, or a data rank, that is more than a tenth slower than those that do the same.
struct Straggler {
  int64_t rank = 0;
  double ratio = 1;  // of its time for a microbatch to the median of the others
};

// By what each rank does itself. Those of one stage do the same; a rank that has a stage alone is never slow. Nor is
// one whose data rank waits longer for another of its ranks: it holds nobody up.
std::vector<Straggler> find_stragglers(const Mesh& mesh, std::span<const RankSeconds> ranks);

// Why the data ranks of such a layout keep equal shares of the leaves; "": they need not.
std::string reason_for_equal_shares(const MeshConfig& mesh);

// How long each data rank takes for its leaves, by what its ranks measured. A pipeline is as fast as its slowest stage;
// what it takes to fill follows from its schedule with the leaves that it has `now`.
std::vector<LeafPace> paces_of_data_ranks(const Mesh& mesh, std::span<const RankSeconds> ranks,
                                          std::span<const LeafRange> now, int64_t microbatches_per_leaf);

struct LeafBalance {
  // Other shares, where these end a step at least a tenth earlier.
  std::optional<std::vector<LeafRange>> leaves;
  std::vector<Straggler> slow;  // data ranks
};

LeafBalance balance_leaves(int64_t num_leaves, std::span<const LeafRange> now, std::span<const LeafPace> paces);

// Who is slow, and what is done about it; "": nobody. machines: by rank, where it is; "" where that need not be said.
std::string balance_note(const Mesh& mesh, std::span<const LeafRange> now, const LeafBalance& balance,
                         std::span<const Straggler> slow, std::span<const std::string> machines);

}  // namespace colossus
