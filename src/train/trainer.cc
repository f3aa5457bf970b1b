#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/clock.h"
#include "comm/agreement.h"
#include "io/config.h"
#include "model/generation_tokens.h"
#include "train/trace_file.h"

namespace colossus {
namespace {

// Of a trace: what the run does, beside the lanes of what programs do.
constexpr const char* kRunLane = "run";

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// What may differ between a run and its continuation without making it another run.
std::string identity_of(RunConfig run) {
  const TrainConfig standard;
  run.out.clear();
  TrainConfig& t = run.train;
  t.device = standard.device;
  t.threads = standard.threads;
  t.evaluate_every = standard.evaluate_every;
  t.evaluation_tokens = standard.evaluation_tokens;
  t.sample_every = standard.sample_every;
  t.sample_tokens = standard.sample_tokens;
  t.sample_prompt = standard.sample_prompt;
  t.checkpoint_every = standard.checkpoint_every;
  t.checkpoint_directory.clear();
  t.keep_last = standard.keep_last;
  t.keep_best = standard.keep_best;
  t.async_checkpoints = standard.async_checkpoints;
  t.max_skipped_steps = standard.max_skipped_steps;
  t.max_seconds = standard.max_seconds;
  t.balance_every = standard.balance_every;
  t.verify_every = standard.verify_every;
  t.recompute = standard.recompute;
  for (DataSourceConfig& source : run.data.sources) source.path.clear();
  run.mesh = {};  // sums_of
  return print_config(run);
}

// Of a layout what has a part in how sums are rounded: all but data, shard and pipeline.
std::string sums_of(const MeshConfig& mesh) {
  std::string text = fmt::format("context = {}, tensor = {}, expert = {}, expert_tensor = {}", mesh.context,
                                 mesh.tensor, mesh.expert, mesh.expert_tensor);
  if (mesh.experts_over_data_ranks())
    text += fmt::format(", data x shard = {}, leaves {}", mesh.data * mesh.shard,
                        mesh.zero_stage == 1 ? "one after another" : "in turn");
  return text;
}

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::create(RunConfig run, FileSystem& files, Device& device,
                                                 std::string tokenizer_json, TrainObserver& observer,
                                                 std::unique_ptr<Ranks> ranks, StateKeeper* keeper) {
  if (!ranks) ranks = std::make_unique<Ranks>();
  std::unique_ptr<Trainer> trainer(new Trainer(std::move(run), files, device, observer, std::move(ranks), keeper));
  trainer->tokenizer_json_ = std::move(tokenizer_json);
  RETURN_IF_ERROR(trainer->open_data());
  RETURN_IF_ERROR(trainer->build_programs());
  RETURN_IF_ERROR(trainer->start_or_resume());
  if (trainer->ranks_->first()) RETURN_IF_ERROR(trainer->open_metrics());
  return trainer;
}

Status Trainer::open_data() {
  ASSIGN_OR_RETURN(const ShardIndex index, resolve_with_data(files_, run_));
  std::vector<DataSource> sources;
  for (const DataSourceConfig& source : run_.data.sources) sources.push_back({source.path, source.weight});
  validation_totals_ = index.totals(kValidationSplit);
  const TrainConfig& t = run_.train;
  ASSIGN_OR_RETURN(train_data_, Loader::open(files_, sources,
                                             {.row_tokens = t.tokens,
                                              .rows_per_step = t.batch,
                                              .seed = static_cast<uint64_t>(t.seed),
                                              .random_offset = run_.data.random_offset}));
  ASSIGN_OR_RETURN(
      validation_data_,
      Loader::open(
          files_, sources,
          {.row_tokens = t.tokens, .rows_per_step = t.microbatch, .split = kValidationSplit, .shuffle = false}));
  return ok_status();
}

Status Trainer::build_programs() {
  const DType compute = run_.train.compute == ComputeType::kAuto   ? device_.preferred_compute_dtype()
                        : run_.train.compute == ComputeType::kBF16 ? DType::kBF16
                                                                   : DType::kF32;
  // The type of activations is part of which bits a run produces: a resume on another machine keeps it.
  run_.train.compute = compute == DType::kBF16 ? ComputeType::kBF16 : ComputeType::kF32;
  ASSIGN_OR_RETURN(flops_per_token_, training_flops_per_token(run_.model, run_.train.tokens));
  ASSIGN_OR_RETURN(train_step_, TrainStep::create(run_, compute, device_, *ranks_));
  ASSIGN_OR_RETURN(evaluator_,
                   Evaluator::create(device_, train_step_->tensors(), run_.model, train_step_->model().options,
                                     ranks_.get(), train_step_->microbatches().buckets()));
  return ok_status();
}

Status Trainer::check_same_run(const std::string& stored_config) const {
  ASSIGN_OR_RETURN(const RunConfig stored, parse_config<RunConfig>(stored_config, "config.toml of the checkpoint"));
  if (const std::string theirs = sums_of(stored.mesh), ours = sums_of(run_.mesh); theirs != ours)
    observer_.on_note(
        fmt::format("[mesh] was {}; now {}: sums are rounded in another order from here on", theirs, ours));
  const std::string theirs = identity_of(stored), ours = identity_of(run_);
  if (theirs == ours) return ok_status();
  std::string differences;
  for (size_t a = 0, b = 0; a < theirs.size() || b < ours.size();) {
    const size_t a_end = std::min(theirs.find('\n', a), theirs.size()),
                 b_end = std::min(ours.find('\n', b), ours.size());
    const std::string left = theirs.substr(std::min(a, theirs.size()), a_end - a),
                      right = ours.substr(std::min(b, ours.size()), b_end - b);
    if (left != right) differences += fmt::format("\n  saved: {}    now: {}", left, right);
    a = a_end + 1;
    b = b_end + 1;
  }
  return invalid(
      fmt::format("[{}] holds checkpoints of another run; give another --set out=DIR, the same settings, or start over "
                  "with --fresh{}",
                  run_.checkpoint_directory(), differences));
}

// Every rank must be able to go on from it.
Status Trainer::load_checkpoint(const std::string& path, bool& of_another_run) {
  const auto load = [&]() -> Status {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(files_, path));
    const auto config = checkpoint.state().texts.find("config.toml");
    if (config == checkpoint.state().texts.end()) return corrupt(fmt::format("[{}] has no config.toml", path));
    const Status same = check_same_run(config->second);
    of_another_run = !same.ok();
    RETURN_IF_ERROR(same);
    RETURN_IF_ERROR(load_parts(device_, train_step_->model().table, train_step_->parts_to_load(), checkpoint));
    step_ = last_saved_step_ = checkpoint.state().step;
    if (checkpoint.state().validation_loss) evaluation_in_metrics_ = step_;
    return ok_status();
  };
  return agree(ranks_->world(), load());
}

void Trainer::abort(const std::string& reason) {
  aborted_ = true;
  ranks_->groups.abort(reason);
  if (checkpoint_ranks_) checkpoint_ranks_->abort(reason);
  if (keeper_) keeper_->abort(reason);
}

Status Trainer::start_or_resume() {
  checkpoint_ranks_ = ranks_->checkpoints.get();
  saver_ = std::make_unique<AsyncSaver>(
      files_, run_.checkpoint_directory(),
      SavePolicy{.keep_last = run_.train.keep_last, .keep_best = run_.train.keep_best},
      run_.train.async_checkpoints ? std::move(ranks_->checkpoints) : nullptr, device_.trace());
  bool started = false;
  if (keeper_) {
    ASSIGN_OR_RETURN(started, start_from_memory());
  }
  if (!started) RETURN_IF_ERROR(start_from_checkpoint());
  if (!keeper_) return ok_status();
  RETURN_IF_ERROR(keeper_->begin(std::move(ranks_->copies), ranks_->copy_distance, train_step_->updated_parts()));
  return keep(interrupted_after_.value_or(StepReport{}));
}

Result<bool> Trainer::start_from_memory() {
  ASSIGN_OR_RETURN(const auto position, keeper_->restore(*ranks_->world(), device_, train_step_->parts_to_load()));
  if (!position) return false;
  step_ = position->step;
  skipped_in_a_row_ = position->skipped_in_a_row;
  best_validation_loss_ = position->best_validation_loss;
  training_seconds_ = position->training_seconds;
  evaluation_in_metrics_ = position->evaluation_in_metrics;
  if (position->num_tokens > 0)  // else it was read from a checkpoint, where what follows a step was done
    interrupted_after_ = {.step = step_,
                          .loss = position->loss,
                          .aux_loss = position->aux_loss,
                          .grad_norm = position->grad_norm,
                          .learning_rate = position->learning_rate,
                          .seconds = position->seconds,
                          .num_tokens = position->num_tokens,
                          .skipped = position->skipped != 0};
  return true;
}

Status Trainer::keep(const StepReport& report) {
  const Traced traced(device_.trace(), kRunLane, "keep");
  return keeper_->keep({.step = step_,
                        .skipped_in_a_row = skipped_in_a_row_,
                        .best_validation_loss = best_validation_loss_,
                        .training_seconds = training_seconds_,
                        .evaluation_in_metrics = evaluation_in_metrics_,
                        .loss = report.loss,
                        .aux_loss = report.aux_loss,
                        .grad_norm = report.grad_norm,
                        .learning_rate = report.learning_rate,
                        .seconds = report.seconds,
                        .num_tokens = report.num_tokens,
                        .skipped = report.skipped ? 1 : 0},
                       device_, train_step_->updated_parts());
}

Status Trainer::start_from_checkpoint() {
  ASSIGN_OR_RETURN(const auto paths,
                   lines_of_first(ranks_->world(), list_checkpoints(files_, run_.checkpoint_directory())));
  Status last_error;
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    bool of_another_run = false;
    const Status loaded = load_checkpoint(*path, of_another_run);
    if (of_another_run) return loaded;
    if (loaded.ok()) {
      for (const std::string& saved : paths)  // the best so far may be an older one that was kept
        if (const auto other = Checkpoint::open(files_, saved); other.ok() && other->state().validation_loss)
          if (const double loss = *other->state().validation_loss;
              best_validation_loss_ == 0 || loss < best_validation_loss_)
            best_validation_loss_ = loss;
      return ok_status();
    }
    observer_.on_note(fmt::format("passed over {}: {}", *path, loaded.message()));
    last_error = loaded;
  }
  if (!last_error.ok())
    return corrupt(fmt::format("[{}] no checkpoint can be read; the last error was: {}\nstart over with --fresh",
                               run_.checkpoint_directory(), last_error.message()));
  return initialize();
}

Status Trainer::initialize() {
  const auto& table = train_step_->model().table;
  if (run_.train.init_from.empty()) {
    initialize_parameters(device_, table, train_step_->parameters(), static_cast<uint64_t>(run_.train.seed));
    return ok_status();
  }
  const auto load = [&]() -> Status {
    std::vector<Status> passed_over;
    ASSIGN_OR_RETURN(const Checkpoint begin, find_checkpoint(files_, run_.train.init_from, passed_over));
    for (const Status& status : passed_over) observer_.on_note("passed over: " + status.message());
    // How texts of the model that it begins with start and end is how this one's do.
    if (const auto text = begin.state().texts.find(kGenerationFile); text != begin.state().texts.end())
      generation_ = text->second;
    return load_parts(device_, table, train_step_->parameters(), begin);
  };
  return agree(ranks_->world(), load().at("train.init_from"));
}

Status Trainer::open_metrics() {
  RETURN_IF_ERROR(files_.make_directories(run_.out));
  RETURN_IF_ERROR(write_file_atomically(files_, run_.out + "/config.toml", print_config(run_)));
  if (!tokenizer_json_.empty())
    RETURN_IF_ERROR(write_file_atomically(files_, run_.out + "/tokenizer.json", tokenizer_json_));
  RETURN_IF_ERROR(keep_generation());
  // Lines of steps that are done again are written again.
  const int64_t done = interrupted_after_ ? step_ - 1 : step_.load();
  const std::optional<int64_t> last_step = done > 0 ? std::optional(done) : std::nullopt;
  std::vector<std::unique_ptr<MetricsWriter>> writers;
  ASSIGN_OR_RETURN(auto lines, open_json_lines(files_, run_.out + "/metrics.jsonl", last_step));
  ASSIGN_OR_RETURN(auto events, open_event_file(files_, run_.out + "/events", unix_seconds(), last_step));
  writers.push_back(std::move(lines));
  writers.push_back(std::move(events));
  metrics_ = write_to_all(std::move(writers));
  return ok_status();
}

// In the run's directory, for whoever saves next: a rank that takes over has what it needs in memory, but texts.
Status Trainer::keep_generation() {
  const std::string path = run_.out + "/" + kGenerationFile;
  if (!generation_.empty()) return write_file_atomically(files_, path, generation_);
  if (run_.train.init_from.empty()) return ok_status();
  const auto kept = read_file(files_, path);
  if (kept.ok()) generation_ = *kept;
  return kept.ok() || kept.status().code() == ErrorCode::kNotFound ? ok_status() : kept.status();
}

Status Trainer::after_step(const StepReport& report, const std::atomic<bool>& stop_requested) {
  const TrainConfig& t = run_.train;
  const std::array metrics = {
      Metric{"train/loss", report.loss},
      Metric{"train/aux_loss", report.aux_loss},
      Metric{"train/grad_norm", report.grad_norm},
      Metric{"train/learning_rate", report.learning_rate},
      Metric{"train/skipped", report.skipped ? 1.0 : 0.0},
      Metric{"speed/tokens_per_second", static_cast<double>(report.num_tokens) / report.seconds},
      Metric{"speed/step_seconds", report.seconds}};
  if (metrics_) RETURN_IF_ERROR(metrics_->write(step_, unix_seconds(), metrics));
  observer_.on_step(report);
  if (report.skipped) {
    observer_.on_note(fmt::format("step {} skipped: loss {}, gradient norm {}; parameters are as before", step_,
                                  report.loss, report.grad_norm));
    if (++skipped_in_a_row_ >= t.max_skipped_steps)
      return invalid(fmt::format(
          "[step {}] {} steps in a row had a loss or gradient that is not finite; the run stops and {}. Lower the "
          "learning rate, lengthen the warm-up or look at the data",
          step_, skipped_in_a_row_,
          last_saved_step_ >= 0 ? fmt::format("the checkpoint of step {} is intact", last_saved_step_)
                                : "no checkpoint was written"));
  } else {
    skipped_in_a_row_ = 0;
  }
  const auto due = [&](int64_t every) { return every > 0 && step_ % every == 0; };
  if (evaluation_is_due()) RETURN_IF_ERROR(evaluate_unless_stopped(stop_requested));
  if (due(t.sample_every) && has_whole_model()) observer_.on_sample(step_);
  // What is not finite is not saved: the last good checkpoint stays the newest.
  if ((due(t.checkpoint_every) || step_ == t.steps) && skipped_in_a_row_ == 0) return save();
  return ok_status();
}

bool Trainer::has_whole_model() const {
  return std::ranges::all_of(train_step_->parameters(),
                             [](const StatePart& part) { return part.piece.size() == part.whole.num_elements(); }) &&
         train_step_->parameters().size() == train_step_->model().table.size();
}

bool Trainer::evaluation_is_due() const {
  const TrainConfig& t = run_.train;
  return (t.evaluate_every > 0 && step_ % t.evaluate_every == 0) || step_ == t.steps;
}

Status Trainer::evaluate(const std::atomic<bool>& stop_requested) {
  const Traced traced(device_.trace(), kRunLane, "evaluation");
  ASSIGN_OR_RETURN(evaluation_, evaluator_->run(*validation_data_, run_.train.evaluation_tokens, &stop_requested));
  last_evaluated_step_ = step_;
  const bool is_best = best_validation_loss_ == 0 || evaluation_.loss < best_validation_loss_;
  if (is_best) best_validation_loss_ = evaluation_.loss;
  const std::array metrics = {Metric{"validation/loss", evaluation_.loss}};
  if (metrics_ && evaluation_in_metrics_ != step_) RETURN_IF_ERROR(metrics_->write(step_, unix_seconds(), metrics));
  observer_.on_evaluation({step_, evaluation_, is_best});
  return ok_status();
}

Status Trainer::evaluate_unless_stopped(const std::atomic<bool>& stop_requested) {
  const Status evaluated = evaluate(stop_requested);
  evaluation_was_stopped_ = !evaluated.ok() && evaluated.code() == ErrorCode::kInterrupted;
  return evaluation_was_stopped_ ? ok_status() : evaluated;
}

Status Trainer::save() {
  CheckpointState state{.step = step_,
                        .validation_loss = std::nullopt,
                        .texts = {{"config.toml", print_config(run_)}, {"model.toml", print_config(run_.model)}}};
  if (last_evaluated_step_ == step_) state.validation_loss = evaluation_.loss;
  if (!tokenizer_json_.empty()) state.texts["tokenizer.json"] = tokenizer_json_;
  if (!generation_.empty()) state.texts[kGenerationFile] = generation_;
  const Traced traced(device_.trace(), kRunLane, "checkpoint");
  const auto tensors = checkpoint_tensors(device_, train_step_->parts_to_save());
  if (run_.train.async_checkpoints) {
    RETURN_IF_ERROR(saver_->start(std::move(state), tensors));
  } else {
    Communicator* ranks = ranks_->checkpoints.get();
    RETURN_IF_ERROR(save_checkpoint(files_, run_.checkpoint_directory(), state, tensors, ranks));
    RETURN_IF_ERROR(
        prune_checkpoints(files_, run_.checkpoint_directory(), run_.train.keep_last, run_.train.keep_best, ranks));
  }
  last_saved_step_ = step_;
  observer_.on_checkpoint(step_);
  return ok_status();
}

Result<TrainResult> Trainer::run(const std::atomic<bool>& stop_requested) {
  const auto out_of_time = [&] { return run_.train.max_seconds > 0 && training_seconds_ >= run_.train.max_seconds; };
  if (run_.train.sample_every > 0 && !has_whole_model())
    observer_.on_note(
        "[train.sample_every] no samples: the model is cut over ranks; use `colossus generate` with a "
        "checkpoint of the run");
  if (interrupted_after_) {
    RETURN_IF_ERROR(after_step(*interrupted_after_, stop_requested));
  } else if (step_ > 0 && evaluation_is_due() && evaluation_in_metrics_ != step_) {
    // The stop that led to this checkpoint came while its step was evaluated.
    RETURN_IF_ERROR(evaluate_unless_stopped(stop_requested));
    if (!evaluation_was_stopped_) RETURN_IF_ERROR(save());
  }
  if (evaluation_was_stopped_) return finish(StopReason::kInterrupted, stop_requested);
  Trace* const trace = device_.trace();
  while (step_ < run_.train.steps) {
    if (trace) trace->begin_step(step_ + 1);
    StepReport report;
    const auto finish_copies = [&] {
      const Traced traced(keeper_ ? trace : nullptr, kComputeLane, "finish_copies");
      return keeper_ ? keeper_->finish_copies() : ok_status();
    };
    ASSIGN_OR_RETURN(const bool done, [&] {
      const Traced traced(trace, kRunLane, "step");
      return train_step_->run(step_, *train_data_,
                              {.stop = stop_requested, .time_is_up = out_of_time(), .before_update = finish_copies},
                              report);
    }());
    if (aborted_) return interrupted("ended by its own process");  // where no other rank was there to say why
    if (!done) return finish(StopReason::kInterrupted, stop_requested);
    step_ = report.step;
    training_seconds_ += report.seconds;
    if (keeper_) RETURN_IF_ERROR(keep(report));
    if (run_.train.balance_every > 0 && step_ % run_.train.balance_every == 0 && step_ < run_.train.steps) {
      ASSIGN_OR_RETURN(const std::string slow, train_step_->balance());
      if (!slow.empty()) observer_.on_note(fmt::format("step {}: {}", step_.load(), slow));
    }
    RETURN_IF_ERROR(after_step(report, stop_requested));
    if (trace && step_ == trace->options().last_step) write_timeline();
    // Not a step later: the next start makes up for the evaluation.
    if (report.stop_requested || evaluation_was_stopped_) return finish(StopReason::kInterrupted, stop_requested);
    if (report.time_is_up || (ranks_->size() == 1 && out_of_time()))
      return finish(StopReason::kOutOfTime, stop_requested);
  }
  return finish(StopReason::kFinished, stop_requested);
}

Result<TrainResult> Trainer::finish(StopReason reason, const std::atomic<bool>& stop_requested) {
  if (reason != StopReason::kInterrupted && last_evaluated_step_ != step_)
    RETURN_IF_ERROR(evaluate_unless_stopped(stop_requested));
  // Also right behind a skipped step: it left parameters and optimizer as they were.
  if (last_saved_step_ != step_) RETURN_IF_ERROR(save());
  RETURN_IF_ERROR(saver_->wait());
  if (metrics_) RETURN_IF_ERROR(metrics_->close());
  if (device_.trace() && step_ <= device_.trace()->options().last_step) write_timeline();
  return TrainResult{.reason = reason,
                     .step = step_,
                     .training_seconds = training_seconds_,
                     .final_evaluation = evaluation_,
                     .best_validation_loss = best_validation_loss_};
}

// A run is worth more than a look at it: that there is none is only told.
void Trainer::write_timeline() {
  const Status written = write_trace(files_, *device_.trace(), ranks_->world());
  if (!written.ok()) observer_.on_note("no trace was written: " + written.message());
}

std::vector<MemoryLine> Trainer::memory_table() const {
  const Microbatches& microbatches = train_step_->microbatches();
  int64_t parameters = 0, gradients = 0, optimizer = 0;
  for (const auto& [name, entry] : tensors().entries()) {
    if (entry.is_view) continue;
    (entry.role == Role::kParameter  ? parameters
     : entry.role == Role::kGradient ? gradients
                                     : optimizer) += entry.memory->num_bytes();
  }
  int64_t snapshot = 0;
  if (run_.train.async_checkpoints)
    for (const StatePart& part : train_step_->parts_to_save()) snapshot += part.piece.size() * 4;
  return {
      {"parameters", parameters},
      {"gradients", gradients},
      {"partial sums of gradients", microbatches.partial_sum_bytes()},
      {"optimizer state", optimizer},
      {"inputs", microbatches.input_bytes()},
      {"activations and scratch", std::max({microbatches.arena_bytes(), train_step_->update().memory_plan().arena_bytes,
                                            evaluator_->arena_bytes()})},
      {"activations of microbatches in flight", microbatches.stash_bytes()},
      {"weights packed for the device", microbatches.packed_bytes()},
      {"copy for checkpoints", snapshot},
      {"copies of this and another rank's state", keeper_ ? keeper_->num_bytes() : 0}};
}

}  // namespace colossus
