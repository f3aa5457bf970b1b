// Mean loss over held-out rows.
#pragma once

#include <atomic>
#include <vector>

#include "train/input_feed.h"
#include "train/pipeline_stage.h"
#include "train/update_program.h"

namespace colossus {

struct Evaluation {
  double loss = 0;         // nats per token
  int64_t num_tokens = 0;  // targets
};

class Evaluator {
 public:
  // Forward passes of `options.batch` rows each with the parameters in `tensors`. ranks: who shares the model and the
  // rows, and outlives the evaluator; null: nobody. buckets: of the parameters, where ranks gather them.
  static Result<std::unique_ptr<Evaluator>> create(Device& device, const TensorSet& tensors, const ModelConfig& model,
                                                   const ProgramOptions& options, Ranks* ranks = nullptr,
                                                   const std::vector<UpdateBucket>& buckets = {});

  // The first rows of the loader that hold max_tokens targets (0: all rows), summed exactly. `stop` ends it early
  // with kInterrupted; `progress` (0..1) may be null. All ranks run it, and get the same answer; a stop of one is a
  // stop of all.
  Result<Evaluation> run(const Loader& loader, int64_t max_tokens, const std::atomic<bool>* stop = nullptr,
                         std::atomic<double>* progress = nullptr);
  int64_t arena_bytes() const;

 private:
  Evaluator(Device& device, const ProgramOptions& options, Ranks* ranks);

  Status compile(const ModelConfig& model, const TensorSet& tensors, const std::vector<UpdateBucket>& buckets);
  std::vector<Executable*> executables() const;
  Status run_batch(const Loader& loader, int64_t batch, int64_t num_rows);
  void add_losses(Executable& executable);
  // Ranks that share a model must end together.
  Result<bool> stops(bool own) const;

  Device& device_;
  const ProgramOptions options_;
  Ranks alone_;
  Ranks& ranks_;
  bool shares_model_ = false;
  bool counts_tokens_ = true;  // of ranks that share sequences one does
  bool counts_losses_ = true;
  std::unique_ptr<InputFeed> inputs_;
  std::unique_ptr<Executable> whole_;  // one of the two
  std::unique_ptr<PipelineStage> stage_;
  ExactSum sum_;
  std::vector<float> losses_;
};

}  // namespace colossus
