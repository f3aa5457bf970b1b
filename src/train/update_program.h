// The second program of a step: the sum of the ranks' gradients, its norm, clipping, optimizer, the new parameters back
// to all ranks.
#pragma once

#include <span>
#include <vector>

#include "base/exact_sum.h"
#include "model/model.h"
#include "parallel/flat_layout.h"
#include "parallel/leaf_shares.h"
#include "tensor/placement.h"
#include "train/optimizer_config.h"

namespace colossus {

// A group this rank is in.
struct Peers {
  RankGroup group;
  int64_t ranks = 1;
  int64_t rank = 0;
};

// How the ranks that share a step share its update. Each bucket of gradients is cut into one piece a rank of `all`; a
// rank sums its piece of everybody's gradients. Ranks of `replicas` then have the same part of the optimizer state, so
// they hand each other their pieces; ranks of `shards` have different ones (ZeRO 1, Rajbhandari et al. 2020), and hand
// each other the new parameters.
struct UpdateRanks {
  Peers all;  // replicas x shards, shards innermost
  Peers replicas;
  Peers shards;
  std::vector<std::vector<TreeNode>> sums;  // of each rank of `all`: the parts of the gradient tree that it has

  static UpdateRanks alone() { return {.sums = {{TreeNode{}}}}; }
};

// What of a parameter this rank updates and has optimizer state of.
struct UpdatedPart {
  size_t parameter = 0;  // in the table
  ElementRange elements;
};

struct UpdateProgram {
  Program program;
  std::vector<UpdatedPart> parts;
};

// The parameters as they lie in memory.
std::vector<Bucket> parameter_buckets(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer,
                                      int64_t bucket_elements);

// "partial.2.0": what a rank has of the gradient tree in bucket 2, but for the last of its sums.
std::string partial_sum_name(size_t bucket, size_t i);

// Inputs: lr () and muon_lr () f32, step () i64 from 1, step_sums (kStepSums) i64. Bucket b is "parameters.b" and
// "gradients.b" (N) f32, with views of every parameter under its name and of its gradient "grad.<parameter>". With
// other ranks also states of partial_sum_name, this rank's parts of the gradient tree but the last, which is in
// gradients.b.
// Optimizer states "<parameter>.m", ".v", ".momentum" have the shape of the updated part: the parameter's where it is
// whole, else (elements) or (matrices, K, N). Outputs: grad_norm (), clip_scale (): NaN when the step was skipped
// because loss or norm is not finite; all_step_sums, step_sums added over all ranks.
Result<UpdateProgram> write_update_program(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer,
                                           const std::vector<Bucket>& buckets, const UpdateRanks& ranks,
                                           int64_t num_microbatches);

// What ranks add exactly: the words of two ExactSums over microbatches; how many ranks were asked to stop, and for how
// many the time is up.
inline constexpr int64_t kLossWords = 0;
inline constexpr int64_t kAuxLossWords = ExactSum::kWords;
inline constexpr int64_t kStopRequests = 2 * ExactSum::kWords;
inline constexpr int64_t kTimeIsUp = kStopRequests + 1;
inline constexpr int64_t kStepSums = kTimeIsUp + 1;

}  // namespace colossus
