// The forward and backward passes of a step on one rank: all layers, or those of a stage of the pipeline. Gradients are
// summed over the leaves that the rank has, and with those of other ranks.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "train/gradient_tree.h"
#include "train/input_feed.h"
#include "train/pipeline_stage.h"
#include "train/rank_model.h"
#include "train/run_times.h"

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
  // The programs of a microbatch.
  std::vector<Executable*> executables() const;
  // These, and others that run in their place or behind them. Whatever they have outside the arena but for inputs,
  // stashes and sums of leaves is for the caller to bind, before anything runs.
  std::vector<Executable*> all_executables() const;
  // What a program adds into.
  struct Accumulator {
    std::string name;
    std::shared_ptr<DeviceMemory> memory;
  };
  // accumulators[i]: of program i of executables().
  Status sum_into(const std::vector<std::vector<Accumulator>>& accumulators);
  // What run() runs, and how often.
  std::vector<std::pair<const Program*, int64_t>> programs_of_step() const;

  // Of the rank's microbatches, where their losses are known and no other rank counts them.
  struct Losses {
    ExactSum loss, aux_loss;
  };
  // Step `step` (from 0). False when `stop` ended it early, which only a rank alone does. checksums: of its leaves, if
  // they are wanted; gradients are then exchanged with other ranks by exchange() alone.
  Result<bool> run(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses,
                   LeafChecksums* checksums = nullptr);
  Status exchange() { return exchange_all_ ? exchange_all_->run() : ok_status(); }
  // The leaves from `first_leaf` on, as many as the rank has, and summed nowhere. Gradients and their parts of the tree
  // are then those of no step.
  Result<bool> run_again(int64_t step, const Loader& data, const std::atomic<bool>& stop, int64_t first_leaf,
                         LeafChecksums& checksums);

  int64_t per_leaf() const { return run_.train.batch / run_.train.microbatch / run_.train.reduction_leaves; }

  // How long microbatches took on this rank since the last call; nothing: there were none.
  std::optional<RankSeconds> take_seconds();

  int64_t input_bytes() const { return inputs_.tensors().num_bytes(); }
  int64_t partial_sum_bytes() const;
  int64_t stash_bytes() const { return stage_ ? stage_->stash_bytes() : 0; }
  int64_t arena_bytes() const;
  int64_t packed_bytes() const;

 private:
  Microbatches(const RunConfig& run, const RankModel& model, Device& device, Ranks& ranks)
      : run_(run), device_(device), ranks_(ranks), inputs_(device, model.options, model.forward.inputs, ranks) {}

  Status compile(const RankModel& model);
  // Divides the update by the programs, gives them what ZeRO 2 and 3 want, and writes those of the last microbatch.
  void share(const RankModel& model, std::vector<Program>& programs, std::vector<Program>& last,
             const std::vector<std::string>& shared);
  Status compile_exchange();
  // Programs of a step's last microbatch, by executable; null where it runs what the others run.
  std::vector<Executable*> last_executables() const;
  // The number of the leaf that is the rank's `turn`-th.
  int64_t leaf_of_turn(int64_t turn) const;
  Status feed(const Loader& data, int64_t step, int64_t first_row, const Program& program);
  Result<bool> run_leaves(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses);
  bool is_last(int64_t turn) const { return turn + 1 == leaves_.size(); }
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
  std::unique_ptr<Executable> whole_, whole_last_;  // one of the two; the last may be null
  std::unique_ptr<PipelineStage> stage_;
  std::unique_ptr<Executable> exchange_others_, exchange_all_;  // behind the passes; null where nothing is left to do
  TensorId loss_, aux_loss_;                                    // of whole_
  InputFeed inputs_;
  bool has_rng_ = false;
  // By executable: of the accumulators that its last run exchanges, and of the others.
  struct Trees {
    std::optional<GradientTree> exchanged, others;
  };
  std::vector<Trees> trees_;
  RunTimes times_;  // of whole_

  // Of the run under way.
  int64_t first_leaf_ = 0;
  bool sums_ = true;
  bool exchanges_ = true;  // beside the passes
  LeafChecksums* checksums_ = nullptr;
  std::vector<std::byte> read_;  // for checksums
};

}  // namespace colossus
