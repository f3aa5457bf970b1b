// One stage of the pipeline: its pieces' programs, the stashes of the microbatches in flight, and the stage's part of a
// step, or of an evaluation. Parameters, gradients, inputs and the optimizer are the caller's; so is the gradient tree.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "base/exact_sum.h"
#include "device/tensor_set.h"
#include "parallel/pipeline_cut.h"
#include "parallel/stage_slots.h"
#include "train/run_times.h"

namespace colossus {

struct PipelineStageOptions {
  PipelineShape shape;
  int64_t stage = 0;          // this one
  int64_t num_leaves = 1;     // of the gradient tree, into which shape.num_microbatches are cut; divides them
  bool forward_only = false;  // a program without a backward pass: microbatch by microbatch through all chunks
  bool profile = false;
  // Changes the programs of the stage, in the order of executables(), before they are compiled. `shared`: as
  // shared_parameters(). Where one of `last`, of which there are as many, gets operations, these are run in its place
  // for the last microbatch of a step: the same program, with more tensors and operations.
  std::function<Status(std::vector<Program>& programs, std::vector<Program>& last,
                       const std::vector<std::string>& shared)>
      rewrite = nullptr;
};

// Any error ends the step on all stages.
struct PipelineCallbacks {
  // Before each run of a program with inputs: writes those of this microbatch to where they are bound. A microbatch's
  // inputs are asked for by each program that reads some, other microbatches' in between.
  std::function<Status(int64_t microbatch, const Program& program)> fill_inputs;
  // The gradients (role gradient) of `program` now are the sums of this leaf: adds them to the tree and zeroes them.
  // Programs of a stage have different gradients, and each comes to the end of its leaves in order, at its own time.
  std::function<Status(int64_t leaf, const Program& program)> end_leaf = nullptr;
  // For this step the programs that rewrite() gave for the last microbatch.
  bool use_last = false;
  // After each run of a program, while its outputs hold.
  std::function<void(Executable& executable)> on_outputs = nullptr;
};

struct PipelineReport {
  // Of the microbatches' losses; nothing but on the last stage.
  ExactSum loss, aux_loss;
  int64_t most_stashes = 0;  // in use at once
};

class PipelineStage {
 public:
  // Cuts the program of a microbatch into num_stages * num_chunks pieces and compiles this stage's. `groups` has the
  // links to the neighbours: of each stage to the next and of the last one to the first, in either direction; only with
  // several pieces. Device and groups outlive the stage.
  static Result<std::unique_ptr<PipelineStage>> create(const Program& microbatch, const std::vector<LayerRange>& pieces,
                                                       const PipelineStageOptions& options, Device& device,
                                                       RankGroups& groups);

  // All programs of the stage. Whatever they have outside the arena but for the stash is for the caller to bind.
  std::vector<Executable*> executables() const;
  // By program: what runs in its place for the last microbatch, or null.
  std::vector<Executable*> last_executables() const;
  // Parameters that other stages have too: terms of their gradients are there.
  const std::vector<std::string>& shared_parameters() const { return shared_parameters_; }
  // Of all that outlives a program: stashes of the microbatches in flight, outboxes, inboxes.
  int64_t stash_bytes() const { return stash_bytes_; }

  // One step, with gradients that are zero. Nothing is under way when it returns. An error says that some stage failed;
  // the groups are then broken.
  Status run(const PipelineCallbacks& callbacks, PipelineReport& report);

  // Adds what a microbatch took on this stage since the last call. False: there was none.
  bool take_seconds(RankSeconds& seconds);

 private:
  struct StashedPart {
    TensorId id;
    StashKind kind;
    int64_t offset_bytes;  // within a stash
  };
  struct Work {
    std::unique_ptr<Executable> receive;  // what it reads of a neighbour; may be null
    std::unique_ptr<Executable> executable;
    std::unique_ptr<Executable> last;                    // may be null
    std::vector<StashedPart> stashes, received_stashes;  // of these two, and of `receive`
    TensorId loss, aux_loss;                             // outputs it may have
    bool has_inputs = false, has_gradients = false;
    RunTimes times;
  };

  PipelineStage(const PipelineStageOptions& options, Device& device, RankGroups& groups)
      : options_(options), device_(device), groups_(groups) {}

  Status plan_steps();
  void plan_evaluation();
  Status compile(const Program& microbatch, const std::vector<LayerRange>& pieces);
  Status add_program(Program program, Program last, const ByStashKind<Stash>& stashes, int chunk, PipelineWork work);
  static std::vector<StashedPart> stashed_parts(const Program& program, const ByStashKind<Stash>& stashes);
  Status add_receives(Program program, const ByStashKind<Stash>& stashes, int chunk, PipelineWork work);
  Status check_gradients_apart() const;
  Work& work_of(const PipelineStep& step);
  Status run_steps(const PipelineCallbacks& callbacks, PipelineReport& report);
  void bind_stash(size_t step, const std::vector<StashedPart>& parts, Executable& executable);
  // Asks for what step `step` reads of a neighbour.
  Status receive_for(size_t step);
  Status run_step(size_t step, const PipelineCallbacks& callbacks, PipelineReport& report);

  const PipelineStageOptions options_;
  Device& device_;
  RankGroups& groups_;
  std::vector<PipelineStep> steps_;
  StageSlots slots_;
  std::vector<std::array<Work, kNumPipelineWorks>> chunks_;
  std::vector<std::string> shared_parameters_;
  std::shared_ptr<DeviceMemory> stash_;  // one kind after the other, the slots of each side by side
  ByStashKind<int64_t> first_slot_{}, slot_bytes_{};
  int64_t stash_bytes_ = 0;
};

}  // namespace colossus
