// One step of training on one rank: its microbatches, its part of the gradient tree, the update.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "train/microbatches.h"
#include "train/train_state.h"

namespace colossus {

struct StepReport {
  int64_t step = 0;  // optimizer steps done, this one included
  double loss = 0;   // nats per token, mean over the batch
  double aux_loss = 0;
  double grad_norm = 0;      // before clipping
  double learning_rate = 0;  // of AdamW
  double seconds = 0;
  int64_t num_tokens = 0;
  bool skipped = false;  // loss or gradient not finite: nothing was updated
  // Of any rank, while the step ran; only with several.
  bool stop_requested = false;
  bool time_is_up = false;
};

class TrainStep {
 public:
  // Compiles the programs of a completed run (see resolve()) and takes the memory for them.
  static Result<std::unique_ptr<TrainStep>> create(const RunConfig& run, DType compute, Device& device, Ranks& ranks);

  // Step `step` (from 0). Alone, a request to stop is looked at between microbatches: false, and nothing has changed.
  // With other ranks the step is always finished, and all report the request.
  // before_update: called when gradients are there and nothing has changed yet.
  struct Asked {
    const std::atomic<bool>& stop;
    bool time_is_up = false;
    std::function<Status()> before_update = nullptr;
  };
  Result<bool> run(int64_t step, const Loader& data, const Asked& asked, StepReport& report);

  // All ranks, between steps: measures how fast they were since the last call, and shares the leaves anew where that
  // ends a step earlier. What there is to say about it, and about who is slow, that was not said before.
  Result<std::string> balance();

  // Behind a run() that failed with kUnavailable: ranks that were found to compute wrong numbers.
  const std::vector<int64_t>& wrong_ranks() const { return wrong_ranks_; }

  const RankModel& model() const { return model_; }
  const TensorSet& tensors() const { return tensors_; }
  // What this rank keeps of the parameters.
  const std::vector<StatePart>& parameters() const { return parameters_; }
  // What this rank updates: ranges of parameters and their optimizer states. Replicas have the same.
  const std::vector<StatePart>& updated_parts() const { return updated_parts_; }
  // What this rank saves; together the ranks save everything once.
  const std::vector<StatePart>& parts_to_save() const { return parts_to_save_; }
  // What this rank needs to go on: its parameters, its part of the optimizer states.
  std::vector<StatePart> parts_to_load() const;
  const Microbatches& microbatches() const { return *microbatches_; }
  const Executable& update() const { return *update_; }

 private:
  TrainStep(const RunConfig& run, Device& device, Ranks& ranks) : run_(run), device_(device), ranks_(ranks) {}

  Status build();
  Status give_accumulators();
  void list_state(const std::vector<UpdatedPart>& updated);
  // Elements of a parameter or its state: what a checkpoint calls it, and the tensor that is these elements.
  StatePart part_of(const std::string& name, const std::string& tensor, size_t parameter,
                    const ElementRange& elements) const;
  Status apply_update(int64_t step, StepReport& report);
  template <class T>
  void set_input(const char* name, const T& value) {
    device_.write(*update_inputs_.at(name).memory, 0, bytes_of(value));
  }

  const RunConfig& run_;
  Device& device_;
  Ranks& ranks_;
  RankModel model_;

  TensorSet tensors_;        // parameters, gradients, optimizer states
  TensorSet update_inputs_;  // of the update
  std::unique_ptr<Microbatches> microbatches_;
  std::unique_ptr<Executable> update_;
  TensorId grad_norm_, clip_scale_, all_step_sums_;
  std::vector<LocalAddition> additions_;
  std::vector<StatePart> parameters_, updated_parts_, parts_to_save_;
  std::array<int64_t, kStepSums> step_sums_{};
  std::vector<int64_t> slow_, slow_data_ranks_;  // as last said
  std::vector<int64_t> wrong_ranks_;
};

}  // namespace colossus
