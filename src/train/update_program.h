// The last program of a step: the norm of the ranks' gradients, clipping, optimizer, the new parameters back to all
// ranks.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/exact_sum.h"
#include "model/model.h"
#include "parallel/flat_layout.h"
#include "parallel/leaf_shares.h"
#include "tensor/placement.h"
#include "train/optimizer_config.h"
#include "train/ranks.h"

namespace colossus {

// A parameter, or the part of it that a rank has.
struct UpdateParameter {
  size_t index = 0;                    // in the table
  Shape shape;                         // of the part
  std::vector<std::string> gradients;  // of this rank's programs: terms of one sum
  // Who has the other parts of the same matrices, cut along their rows or columns.
  Peers matrix_peers;
  bool cut_columns = false;
};

// Parameters whose gradients are sums over the same ranks, and how these share the update. Each bucket of gradients is
// cut into one piece a rank of `all`; a rank sums its piece of everybody's gradients. Ranks of `replicas` then have the
// same part of the optimizer state, so they hand each other their pieces; ranks of `shards` have different ones (ZeRO
// 1, Rajbhandari et al. 2020), and hand each other the new parameters.
struct UpdateGroup {
  Peers all;  // replicas x shards, shards innermost
  Peers replicas;
  Peers shards;
  // What each rank of `all` has of the gradient: for each of a parameter's `gradients` the parts of the gradient tree.
  std::vector<int64_t> num_sums;
  std::vector<TreeAddition> additions;  // of all of these, rank by rank, to their sum
  std::vector<UpdateParameter> parameters;

  // ZeRO 1: the run of this one of the rank's programs for the last microbatch of a step exchanges the gradients beside
  // its passes, among `all` and then among the replicas, on lanes of their own. Without it they are exchanged when all
  // programs have run.
  struct LastRun {
    size_t program = 0;
    Peers all, replicas;
  };
  std::optional<LastRun> last_run;

  // ZeRO 2: gradients are exchanged beside the backward pass, among all or, of a tied embedding, the ranks of one end;
  // what a rank keeps of each accumulator are its pieces of these sums. `additions` are of what it keeps, or of what
  // the two ends, which are the replicas, keep.
  struct Exchange {
    Peers peers;
    int64_t num_sums = 1;
    std::vector<TreeAddition> additions;  // of one leaf of each rank, to num_sums
  };
  std::optional<Exchange> exchange;
  // ZeRO 3: the shards once more. A rank keeps the parameters that it updates, and gathers the others beside its
  // passes.
  std::optional<Peers> gather;

  // With an exchange: does the pipeline's other end add to these gradients?
  bool is_on_both_ends() const { return exchange && exchange->peers.ranks != all.ranks; }
  size_t num_accumulators() const { return parameters.front().gradients.size(); }
};

// Parameters of a group that lie one after another, and how the group's ranks divide them.
struct UpdateBucket {
  size_t index = 0;  // among those of all groups
  const UpdateGroup* group = nullptr;
  size_t first_parameter = 0;  // of the group's
  Bucket bucket;
  std::vector<ElementRange> pieces;  // in order
  ElementRange summed;               // what this rank sums of all ranks' gradients: its piece
  ElementRange exchanged;            // ZeRO 2: what it keeps of the sums of its exchange
  ElementRange updated;              // by this rank and its replicas

  const UpdateParameter& parameter(size_t i) const { return group->parameters[first_parameter + i]; }
  // Pieces lie shard by shard, so that what the replicas of one shard have together is one range. Where they come out
  // uneven (whole matrices, short layers) the long ones are another shard's in the next bucket.
  ElementRange piece_of(int64_t rank_of_all) const;
  ElementRange range_of_shard(int64_t shard) const;  // what it and its replicas update
  std::vector<ElementRange> pieces_by_rank() const;  // of `all`
  std::vector<ElementRange> pieces_of_replicas() const;  // of those that update the same as this rank, by replica
  std::string parameters_name() const;
  std::string gradients_name(size_t accumulator) const;

 private:
  size_t first_piece(int64_t shard) const;
};

// `groups` outlive them. Buckets that are exchanged beside the passes end with their layer.
std::vector<UpdateBucket> make_update_buckets(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer,
                                              const std::vector<UpdateGroup>& groups, int64_t bucket_elements);

// What of a parameter this rank updates and has optimizer state of.
struct UpdatedPart {
  size_t parameter = 0;   // in the table
  ElementRange elements;  // of the rank's part
  std::string tensor;     // these, of the parameter
  bool is_copy = false;   // another rank has the same and comes first
};

// Sums of gradients that lie apart on one rank alone: into += from, before the program runs.
struct LocalAddition {
  std::string into, from;
};

struct UpdateProgram {
  Program program;
  std::vector<UpdatedPart> parts;
  std::vector<LocalAddition> additions;
};

// All parameters on one rank, with gradients "grad.<parameter>".
std::vector<UpdateGroup> update_on_one_rank(std::span<const ParameterSpec> table);

// What ranks exchange in one operation: large enough that the wire is busy, small enough that the sum of one overlaps
// the exchange of the next.
inline constexpr int64_t kUpdateBucketElements = int64_t{4} << 20;

// Inputs: lr () and muon_lr () f32, step () i64 from 1, step_sums (kStepSums) i64. Buckets are counted through all
// groups; bucket b is "parameters.b" and "gradients.b" (N) f32 (of parameters with several gradients "gradients.b.1"
// and on, too: accumulators), with views of every parameter and every gradient under its name. Where others sum with
// this rank, its piece of the first accumulator is the sum already (train/shared_state.h), and so are those of its
// replicas. Of a group with an exchange, gradients are (sums, size of the
// piece), and without views; with a gather, parameters are those that the rank updates. Optimizer states
// "<parameter>.m", ".v", ".momentum" have the shape of the updated part: the parameter's where it is whole, else
// (elements) or (matrices, K, N). Outputs: grad_norm
// (), clip_scale (): NaN when the step was skipped because loss or norm is not finite; all_step_sums, step_sums added
// over all ranks of `world`.
struct UpdateOptions {
  int64_t bucket_elements = kUpdateBucketElements;
  int64_t num_microbatches = 1;
  Peers world;  // all ranks: the norm is over all their pieces
};
Result<UpdateProgram> write_update_program(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer,
                                           const std::vector<UpdateGroup>& groups, const UpdateOptions& options);

// What ranks add exactly: the words of two ExactSums over microbatches; how many ranks were asked to stop, and for how
// many the time is up.
inline constexpr int64_t kLossWords = 0;
inline constexpr int64_t kAuxLossWords = ExactSum::kWords;
inline constexpr int64_t kStopRequests = 2 * ExactSum::kWords;
inline constexpr int64_t kTimeIsUp = kStopRequests + 1;
inline constexpr int64_t kStepSums = kTimeIsUp + 1;

}  // namespace colossus
