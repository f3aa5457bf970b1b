// What one rank computes of a run's model, and with whom it shares the update: pure functions of the run and the mesh.
#pragma once

#include <vector>

#include "parallel/partition.h"
#include "train/ranks.h"
#include "train/run_config.h"
#include "train/update_program.h"

namespace colossus {

struct RankModel {
  std::vector<ParameterSpec> table;  // whole
  ProgramOptions options;            // of a microbatch
  RankProgram forward;               // of all layers: a stage of a pipeline takes its own out of `microbatch`
  Program microbatch;

  const TensorPart& parameter(const std::string& name) const;
};

// Placements of the parameters of a table, by name.
std::map<std::string, Placement> placements_of(std::span<const ParameterSpec> table);

// The rank's part of the forward pass, and of forward and backward.
Result<RankModel> write_rank_model(const RunConfig& run, DType compute, const Ranks& ranks);

// What `ranks` must know of this rank's compiled programs.
struct RankGradients {
  std::vector<const Program*> programs;  // of a microbatch
  std::vector<std::string> shared;       // parameters that the pipeline's other end has as well
};

// The leaves of the gradient tree that each data rank adds up, and with ZeRO 2 and 3 how many: there leaves are dealt
// in turn.
std::vector<LeafRange> leaves_of_data_ranks(int64_t num_leaves, const Ranks& ranks);

// Of the tree that this rank adds up: its leaves, or with ZeRO 2 and 3, where the ranks' leaves are summed turn by
// turn, the turns.
LeafRange leaves_of_tree(int64_t num_leaves, const Ranks& ranks);

// Of the parameters that these programs have: in the table's order within a group. Parameters of a group add into
// accumulators of the same programs.
std::vector<UpdateGroup> update_groups(const RankModel& model, const RankGradients& gradients, int64_t num_leaves,
                                       const Ranks& ranks);

}  // namespace colossus
