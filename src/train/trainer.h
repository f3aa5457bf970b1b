// A training run: step after step; evaluation, checkpoints and metrics on the way. Of several ranks each has a trainer,
// and all do the same things at the same steps; the first one keeps the metrics.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "checkpoint/async_saver.h"
#include "data/loader.h"
#include "train/evaluator.h"
#include "train/metrics/metrics.h"
#include "train/recovery/state_keeper.h"
#include "train/train_state.h"
#include "train/train_step.h"

namespace colossus {

struct EvaluationReport {
  int64_t step = 0;
  Evaluation evaluation;
  bool is_best = false;
};

// Told what happens, on the training thread.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_step(const StepReport&) {}
  virtual void on_evaluation(const EvaluationReport&) {}
  virtual void on_checkpoint(int64_t /*step*/) {}
  virtual void on_sample(int64_t /*step*/) {}           // one is due; parameters are in Trainer::tensors()
  virtual void on_note(const std::string& /*text*/) {}  // something went wrong and was dealt with
};

enum class StopReason { kFinished, kInterrupted, kOutOfTime };

struct TrainResult {
  StopReason reason = StopReason::kFinished;
  int64_t step = 0;
  double training_seconds = 0;  // of this process's steps, without evaluation, samples and checkpoints
  Evaluation final_evaluation;  // not measured after an interruption
  double best_validation_loss = 0;
};

struct MemoryLine {
  std::string what;
  int64_t bytes = 0;
};

class Trainer {
 public:
  // Opens the data, completes `run` by its rules, compiles the programs, and starts at step 0 or, when `run.out` holds
  // checkpoints of the same run, at the newest good one. tokenizer_json is kept in every checkpoint.
  // ranks: null for a run of one, whatever [mesh] says; else those of a mesh that check_mesh passed, all with the same
  // run and files. keeper: what this process and its peers remember of the run, which is newer than any checkpoint; all
  // ranks have one, or none. It outlives the trainer.
  static Result<std::unique_ptr<Trainer>> create(RunConfig run, FileSystem& files, Device& device,
                                                 std::string tokenizer_json, TrainObserver& observer,
                                                 std::unique_ptr<Ranks> ranks = nullptr, StateKeeper* keeper = nullptr);

  // Until the last step, a request to stop (looked at between microbatches), the time limit or an error. Saves a
  // checkpoint before it returns, unless an error or non-finite numbers ended it.
  Result<TrainResult> run(const std::atomic<bool>& stop_requested);

  // Ends run() with this reason, wherever it waits for other ranks, or behind the step it is in; any thread.
  void abort(const std::string& reason);

  // Behind a run() that failed with kUnavailable: ranks that were found to compute wrong numbers.
  const std::vector<int64_t>& wrong_ranks() const { return train_step_->wrong_ranks(); }

  const RunConfig& config() const { return run_; }
  int64_t step() const { return step_; }
  const TensorSet& tensors() const { return train_step_->tensors(); }
  const Ranks& ranks() const { return *ranks_; }
  const Loader& train_data() const { return *train_data_; }
  const Loader& validation_data() const { return *validation_data_; }
  ShardCounts validation_totals() const { return validation_totals_; }
  DType compute_dtype() const { return train_step_->model().options.compute; }
  double flops_per_token() const { return flops_per_token_; }
  // What the programs say the run takes, line by line; the sum is what to expect of the process.
  std::vector<MemoryLine> memory_table() const;

 private:
  Trainer(RunConfig run, FileSystem& files, Device& device, TrainObserver& observer, std::unique_ptr<Ranks> ranks,
          StateKeeper* keeper)
      : run_(std::move(run)),
        files_(files),
        device_(device),
        observer_(observer),
        ranks_(std::move(ranks)),
        keeper_(keeper) {}

  Status open_data();
  Status build_programs();
  Status start_or_resume();
  // From the memory of the ranks: false when it holds no whole state.
  Result<bool> start_from_memory();
  Status start_from_checkpoint();
  Status initialize();  // parameters, where there is no checkpoint of the run
  Status keep(const StepReport& report);
  Status load_checkpoint(const std::string& path, bool& of_another_run);
  Status check_same_run(const std::string& stored_config) const;
  Status open_metrics();
  Status keep_generation();
  Status after_step(const StepReport& report, const std::atomic<bool>& stop_requested);
  bool has_whole_model() const;
  bool evaluation_is_due() const;
  Status evaluate_unless_stopped(const std::atomic<bool>& stop_requested);
  Status evaluate(const std::atomic<bool>& stop_requested);
  Status save();
  void write_timeline();
  Result<TrainResult> finish(StopReason reason, const std::atomic<bool>& stop_requested);

  RunConfig run_;
  FileSystem& files_;
  Device& device_;
  TrainObserver& observer_;
  std::unique_ptr<Ranks> ranks_;
  StateKeeper* keeper_;
  std::string tokenizer_json_;
  std::string generation_;  // kGenerationFile of the model that init_from names; empty: none
  double flops_per_token_ = 0;
  std::optional<Loader> train_data_, validation_data_;
  ShardCounts validation_totals_;  // of the first source
  std::unique_ptr<TrainStep> train_step_;
  std::unique_ptr<Evaluator> evaluator_;

  std::atomic<int64_t> step_ = 0;  // others may look
  std::atomic<bool> aborted_ = false;
  std::optional<StepReport> interrupted_after_;  // a step that was done, but maybe not what comes after it
  int64_t skipped_in_a_row_ = 0;
  int64_t last_saved_step_ = -1;
  int64_t last_evaluated_step_ = -1;
  int64_t evaluation_in_metrics_ = -1;  // the step of a checkpoint that was evaluated before it was saved
  bool evaluation_was_stopped_ = false;
  Evaluation evaluation_;            // of last_evaluated_step_
  double best_validation_loss_ = 0;  // 0: none yet
  double training_seconds_ = 0;
  std::unique_ptr<MetricsWriter> metrics_;    // of the first rank
  Communicator* checkpoint_ranks_ = nullptr;  // of ranks_, or of saver_
  std::unique_ptr<AsyncSaver> saver_;
};

}  // namespace colossus
