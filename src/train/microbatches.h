// The forward and backward passes of a step on one rank: all layers, or those of a stage of the pipeline. Gradients are
// summed over the leaves that the rank has.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "train/gradient_tree.h"
#include "train/input_feed.h"
#include "train/pipeline_stage.h"
#include "train/rank_model.h"

namespace colossus {

// By leaf, from the rank's first on: of all gradients that it makes of the leaf, and outside pipelines of the losses.
// Whoever computes a leaf in the same place of a layout comes to the same.
using LeafChecksums = std::vector<uint64_t>;

class Microbatches {
 public:
  // run, device and ranks outlive it.
  static Result<std::unique_ptr<Microbatches>> create(const RunConfig& run, const RankModel& model, Device& device,
                                                      Ranks& ranks);

  // How the rank's gradients are summed and its parameters updated.
  const std::vector<UpdateGroup>& update_groups() const { return groups_; }
  // Of these with the bucket size of an update program, for programs of its parameters.
  const std::vector<UpdateBucket>& buckets() const { return buckets_; }
  // Whatever these have outside the arena but for inputs and stashes is for the caller to bind, before anything runs.
  std::vector<Executable*> executables() const;
  // accumulators[i]: the memories that program i of executables() adds into.
  Status sum_into(const std::vector<std::vector<std::shared_ptr<DeviceMemory>>>& accumulators);
  // Program i's parts of the gradient tree after a step: the last is in the accumulators. See GradientTree.
  const GradientTree* tree(size_t program) const { return trees_[program] ? &*trees_[program] : nullptr; }

  // Of the rank's microbatches, where their losses are known and no other rank counts them.
  struct Losses {
    ExactSum loss, aux_loss;
  };
  // Step `step` (from 0). False when `stop` ended it early, which only a rank alone does. checksums: of its leaves, if
  // they are wanted.
  Result<bool> run(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses,
                   LeafChecksums* checksums = nullptr);
  // The leaves from `first_leaf` on, as many as the rank has, and summed nowhere. Gradients and their parts of the tree
  // are then those of no step.
  Result<bool> run_again(int64_t step, const Loader& data, const std::atomic<bool>& stop, int64_t first_leaf,
                         LeafChecksums& checksums);

  // How long microbatches took on this rank since the last call, in the median; 0: there were none. Not in pipelines,
  // where they wait for other stages.
  double take_median_seconds();

  int64_t input_bytes() const { return inputs_.tensors().num_bytes(); }
  int64_t partial_sum_bytes() const;
  int64_t stash_bytes() const { return stage_ ? stage_->stash_bytes() : 0; }
  int64_t arena_bytes() const;
  int64_t packed_bytes() const;

 private:
  Microbatches(const RunConfig& run, const RankModel& model, Device& device, Ranks& ranks)
      : run_(run), device_(device), ranks_(ranks), inputs_(device, model.options, model.forward.inputs, ranks) {}

  Status compile(const RankModel& model);
  // Divides the update by the programs, and gives them what ZeRO 2 and 3 want.
  void share(const RankModel& model, std::vector<Program>& programs, const std::vector<std::string>& shared);
  // The number of the leaf that is the rank's `turn`-th.
  int64_t leaf_of_turn(int64_t turn) const;
  int64_t per_leaf() const { return run_.train.batch / run_.train.microbatch / run_.train.reduction_leaves; }
  Status feed(const Loader& data, int64_t step, int64_t first_row, const Program& program);
  Result<bool> run_leaves(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses);
  void end_leaf(size_t program, int64_t turn);
  uint64_t checksum_of(const DeviceMemory& memory);
  Result<bool> run_whole(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses);
  Status run_stage(int64_t step, const Loader& data, Losses& losses);

  const RunConfig& run_;
  Device& device_;
  Ranks& ranks_;
  LeafRange leaves_;  // of the tree that the rank adds up
  std::vector<UpdateGroup> groups_;
  std::vector<UpdateBucket> buckets_;
  std::unique_ptr<Executable> whole_;  // one of the two
  std::unique_ptr<PipelineStage> stage_;
  TensorId loss_, aux_loss_;  // of whole_
  InputFeed inputs_;
  bool has_rng_ = false;
  std::vector<std::optional<GradientTree>> trees_;  // by executable
  std::vector<double> seconds_;

  // Of the run under way.
  int64_t first_leaf_ = 0;
  bool sums_ = true;
  LeafChecksums* checksums_ = nullptr;
  std::vector<std::byte> read_;  // for checksums
};

}  // namespace colossus
