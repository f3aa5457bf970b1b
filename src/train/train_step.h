// One step of training on one rank: its microbatches, its part of the gradient tree, the update.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "data/loader.h"
#include "device/tensor_set.h"
#include "train/gradient_tree.h"
#include "train/ranks.h"
#include "train/run_config.h"
#include "train/train_state.h"
#include "train/update_program.h"

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

  const TensorSet& tensors() const { return tensors_; }
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  // What this rank updates: ranges of parameters and their optimizer states. Replicas have the same.
  std::vector<StatePart> updated_parts() const;
  // What this rank saves; together the ranks save everything once.
  std::vector<StatePart> parts_to_save() const;
  // What this rank needs to go on: all parameters, its part of the optimizer states.
  std::vector<StatePart> parts_to_load() const;
  const ProgramOptions& options() const { return options_; }
  const Executable& microbatch() const { return *microbatch_; }
  const Executable& update() const { return *update_; }
  int64_t partial_sum_bytes() const { return gradients_->num_bytes(); }
  int64_t input_bytes() const { return inputs_.num_bytes(); }

 private:
  TrainStep(const RunConfig& run, Device& device, Ranks& ranks) : run_(run), device_(device), ranks_(ranks) {}

  Status build(DType compute);
  Status make_gradient_tree(size_t num_buckets);
  StatePart part_of(const Tensor& tensor, const UpdatedPart& part) const;
  Status run_microbatch(const Loader& data, int64_t step, int64_t first_row);
  Status apply_update(int64_t step, StepReport& report);
  template <class T>
  void set_input(const char* name, const T& value) {
    device_.write(*inputs_.at(name).memory, 0, bytes_of(value));
  }

  const RunConfig& run_;
  Device& device_;
  Ranks& ranks_;
  ProgramOptions options_;  // of a microbatch
  std::vector<ParameterSpec> parameters_;
  LeafRange leaves_;  // of this rank

  TensorSet tensors_;  // parameters, gradients, optimizer states
  TensorSet inputs_;
  std::unique_ptr<Executable> microbatch_, update_;
  TensorId loss_, aux_loss_, grad_norm_, clip_scale_, all_step_sums_;
  std::optional<GradientTree> gradients_;
  std::vector<UpdatedPart> updated_;
  std::vector<int32_t> tokens_, targets_, document_start_;  // of a microbatch
  std::array<int64_t, kStepSums> step_sums_{};
};

}  // namespace colossus
