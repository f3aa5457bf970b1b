#include "train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/clock.h"
#include "base/exact_sum.h"
#include "io/config.h"
#include "train/update_program.h"

namespace colossus {
namespace {

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

float read_scalar(Executable& executable, TensorId id) {
  float value = 0;
  executable.read_output(id, writable_bytes_of(value));
  return value;
}

// What may differ between a run and its continuation without making it another run.
std::string identity_of(RunConfig run) {
  const TrainConfig standard;
  run.out.clear();
  TrainConfig& t = run.train;
  t.threads = standard.threads;
  t.evaluate_every = standard.evaluate_every;
  t.evaluation_tokens = standard.evaluation_tokens;
  t.sample_every = standard.sample_every;
  t.sample_tokens = standard.sample_tokens;
  t.sample_prompt = standard.sample_prompt;
  t.checkpoint_every = standard.checkpoint_every;
  t.keep_last = standard.keep_last;
  t.keep_best = standard.keep_best;
  t.async_checkpoints = standard.async_checkpoints;
  t.max_skipped_steps = standard.max_skipped_steps;
  t.max_seconds = standard.max_seconds;
  t.recompute = standard.recompute;
  for (DataSourceConfig& source : run.data.sources) source.path.clear();
  return print_config(run);
}

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::create(RunConfig run, FileSystem& files, Device& device,
                                                 std::string tokenizer_json, TrainObserver& observer) {
  std::unique_ptr<Trainer> trainer(new Trainer(std::move(run), files, device, observer));
  trainer->tokenizer_json_ = std::move(tokenizer_json);
  RETURN_IF_ERROR(trainer->open_data());
  RETURN_IF_ERROR(trainer->build_programs());
  RETURN_IF_ERROR(trainer->start_or_resume());
  RETURN_IF_ERROR(trainer->open_metrics());
  return trainer;
}

Status Trainer::open_data() {
  if (run_.data.sources.empty())
    return invalid(
        "[data.sources] none; build shards with `colossus data build` and name their directory under [[data.sources]]");
  std::vector<DataSource> sources;
  for (const DataSourceConfig& source : run_.data.sources) sources.push_back({source.path, source.weight});
  ASSIGN_OR_RETURN(const ShardIndex index, read_shard_index(files_, sources.front().directory));
  validation_totals_ = index.totals(kValidationSplit);
  RETURN_IF_ERROR(resolve(run_, index.identity.vocab_size));
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
  const TrainConfig& t = run_.train;
  options_ = {.batch = t.microbatch,
              .tokens = t.tokens,
              .compute = t.compute == ComputeType::kAuto   ? device_.preferred_compute_dtype()
                         : t.compute == ComputeType::kBF16 ? DType::kBF16
                                                           : DType::kF32,
              .document_mask = run_.data.document_mask};
  // The type of activations is part of which bits a run produces: a resume on another machine keeps it.
  run_.train.compute = options_.compute == DType::kBF16 ? ComputeType::kBF16 : ComputeType::kF32;
  ASSIGN_OR_RETURN(parameters_, parameter_table(run_.model));
  ASSIGN_OR_RETURN(flops_per_token_, training_flops_per_token(run_.model, t.tokens));
  ASSIGN_OR_RETURN(Program microbatch, write_training_program(run_.model, options_, t.recompute));
  ASSIGN_OR_RETURN(Program update, write_update_program(parameters_, run_.optimizer));
  for (const Program* program : {&microbatch, &update}) {
    for (Role role : {Role::kParameter, Role::kGradient, Role::kOptimizerState})
      RETURN_IF_ERROR(tensors_.add_role(device_, *program, role));
    RETURN_IF_ERROR(inputs_.add_role(device_, *program, Role::kInput));
  }
  ASSIGN_OR_RETURN(microbatch_, device_.compile(std::move(microbatch)));
  ASSIGN_OR_RETURN(update_, device_.compile(std::move(update)));
  for (Executable* executable : {microbatch_.get(), update_.get()}) {
    tensors_.bind_to(*executable);
    inputs_.bind_to(*executable);
  }
  loss_ = microbatch_->program().find("loss");
  aux_loss_ = microbatch_->program().find("aux_loss");
  grad_norm_ = update_->program().find("grad_norm");
  clip_scale_ = update_->program().find("clip_scale");
  ASSIGN_OR_RETURN(evaluator_, Evaluator::create(device_, tensors_, run_.model, options_));
  ASSIGN_OR_RETURN(gradients_, GradientTree::create(device_, tensors_, t.reduction_leaves));
  const float loss_grad = static_cast<float>(t.microbatch) / static_cast<float>(t.batch);
  device_.write(*inputs_.at("loss_grad").memory, 0, bytes_of(loss_grad));
  const auto count = static_cast<size_t>(t.microbatch * t.tokens);
  tokens_.resize(count);
  targets_.resize(count);
  if (options_.document_mask) document_start_.resize(count);
  return ok_status();
}

Status Trainer::check_same_run(const std::string& stored_config) const {
  ASSIGN_OR_RETURN(const RunConfig stored, parse_config<RunConfig>(stored_config, "config.toml of the checkpoint"));
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
                  run_.out, differences));
}

Status Trainer::start_or_resume() {
  saver_ =
      std::make_unique<AsyncSaver>(files_, run_.out + "/checkpoints",
                                   SavePolicy{.keep_last = run_.train.keep_last, .keep_best = run_.train.keep_best});
  ASSIGN_OR_RETURN(auto paths, list_checkpoints(files_, run_.out + "/checkpoints"));
  Status last_error;
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    auto checkpoint = Checkpoint::open(files_, *path);
    Status loaded = checkpoint.status();
    if (loaded.ok()) {
      const auto config = checkpoint->state().texts.find("config.toml");
      if (config == checkpoint->state().texts.end())
        loaded = corrupt(fmt::format("[{}] has no config.toml", *path));
      else
        RETURN_IF_ERROR(check_same_run(config->second));
    }
    if (loaded.ok()) loaded = load_tensors(device_, tensors_, *checkpoint, true);
    if (loaded.ok()) {
      step_ = last_saved_step_ = checkpoint->state().step;
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
    return corrupt(
        fmt::format("[{}/checkpoints] no checkpoint can be read; the last error was: {}\nstart over with --fresh",
                    run_.out, last_error.message()));
  initialize_parameters(device_, tensors_, parameters_, static_cast<uint64_t>(run_.train.seed));
  return ok_status();
}

Status Trainer::open_metrics() {
  RETURN_IF_ERROR(files_.make_directories(run_.out));
  RETURN_IF_ERROR(write_file_atomically(files_, run_.out + "/config.toml", print_config(run_)));
  if (!tokenizer_json_.empty())
    RETURN_IF_ERROR(write_file_atomically(files_, run_.out + "/tokenizer.json", tokenizer_json_));
  const std::optional<int64_t> last_step = step_ > 0 ? std::optional(step_) : std::nullopt;
  std::vector<std::unique_ptr<MetricsWriter>> writers;
  ASSIGN_OR_RETURN(auto lines, open_json_lines(files_, run_.out + "/metrics.jsonl", last_step));
  ASSIGN_OR_RETURN(auto events, open_event_file(files_, run_.out + "/events", unix_seconds(), last_step));
  writers.push_back(std::move(lines));
  writers.push_back(std::move(events));
  metrics_ = write_to_all(std::move(writers));
  return ok_status();
}

Status Trainer::run_microbatch(int64_t first_row) {
  RETURN_IF_ERROR(train_data_->fill(step_, first_row, run_.train.microbatch, tokens_, targets_, document_start_));
  device_.write(*inputs_.at("tokens").memory, 0, std::as_bytes(std::span(tokens_)));
  device_.write(*inputs_.at("targets").memory, 0, std::as_bytes(std::span(targets_)));
  if (options_.document_mask)
    device_.write(*inputs_.at("document_start").memory, 0, std::as_bytes(std::span(document_start_)));
  if (const auto* rng = inputs_.find("rng")) {
    const std::array<int64_t, 3> values = {run_.train.seed, step_, first_row};
    device_.write(*rng->memory, 0, bytes_of(values));
  }
  microbatch_->run();
  return ok_status();
}

Result<bool> Trainer::accumulate_gradients(const std::atomic<bool>& stop_requested, StepReport& report) {
  const TrainConfig& t = run_.train;
  const int64_t num_microbatches = t.batch / t.microbatch, per_leaf = num_microbatches / t.reduction_leaves;
  ExactSum loss, aux_loss;
  gradients_->begin_step();
  for (int64_t leaf = 0; leaf < t.reduction_leaves; ++leaf) {
    gradients_->begin_leaf();
    for (int64_t i = 0; i < per_leaf; ++i) {
      if (stop_requested.load(std::memory_order_relaxed)) return false;
      RETURN_IF_ERROR(run_microbatch((leaf * per_leaf + i) * t.microbatch));
      loss.add(static_cast<double>(read_scalar(*microbatch_, loss_)));
      if (aux_loss_) aux_loss.add(static_cast<double>(read_scalar(*microbatch_, aux_loss_)));
    }
    gradients_->end_leaf();
  }
  report.loss = loss.value() / static_cast<double>(num_microbatches);
  report.aux_loss = aux_loss.value() / static_cast<double>(num_microbatches);
  return true;
}

void Trainer::apply_update(StepReport& report) {
  const double factor = learning_rate_factor(run_.optimizer, step_, run_.train.steps);
  report.learning_rate = factor * run_.optimizer.learning_rate;
  const float lr = static_cast<float>(report.learning_rate),
              muon_lr = static_cast<float>(factor * run_.optimizer.muon_learning_rate);
  const float loss = static_cast<float>(report.loss + report.aux_loss);
  const int64_t step = step_ + 1;
  device_.write(*inputs_.at("lr").memory, 0, bytes_of(lr));
  device_.write(*inputs_.at("muon_lr").memory, 0, bytes_of(muon_lr));
  device_.write(*inputs_.at("step").memory, 0, bytes_of(step));
  device_.write(*inputs_.at("loss").memory, 0, bytes_of(loss));
  update_->run();
  report.grad_norm = static_cast<double>(read_scalar(*update_, grad_norm_));
  report.skipped = std::isnan(read_scalar(*update_, clip_scale_));
}

Result<bool> Trainer::train_step(const std::atomic<bool>& stop_requested, StepReport& report) {
  const double start = monotonic_seconds();
  ASSIGN_OR_RETURN(const bool done, accumulate_gradients(stop_requested, report));
  if (!done) return false;
  apply_update(report);
  report.step = ++step_;
  report.num_tokens = run_.train.batch * run_.train.tokens;
  report.seconds = monotonic_seconds() - start;
  training_seconds_ += report.seconds;
  return true;
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
  RETURN_IF_ERROR(metrics_->write(step_, unix_seconds(), metrics));
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
  if (due(t.evaluate_every) || step_ == t.steps) {
    const Status evaluated = evaluate(stop_requested);
    if (!evaluated.ok() && evaluated.code() != ErrorCode::kInterrupted) return evaluated;
  }
  if (due(t.sample_every)) observer_.on_sample(step_);
  // What is not finite is not saved: the last good checkpoint stays the newest.
  if ((due(t.checkpoint_every) || step_ == t.steps) && skipped_in_a_row_ == 0) return save();
  return ok_status();
}

Status Trainer::evaluate(const std::atomic<bool>& stop_requested) {
  ASSIGN_OR_RETURN(evaluation_, evaluator_->run(*validation_data_, run_.train.evaluation_tokens, &stop_requested));
  last_evaluated_step_ = step_;
  const bool is_best = best_validation_loss_ == 0 || evaluation_.loss < best_validation_loss_;
  if (is_best) best_validation_loss_ = evaluation_.loss;
  const std::array metrics = {Metric{"validation/loss", evaluation_.loss}};
  RETURN_IF_ERROR(metrics_->write(step_, unix_seconds(), metrics));
  observer_.on_evaluation({step_, evaluation_, is_best});
  return ok_status();
}

Status Trainer::save() {
  CheckpointState state{.step = step_,
                        .validation_loss = std::nullopt,
                        .texts = {{"config.toml", print_config(run_)}, {"model.toml", print_config(run_.model)}}};
  if (last_evaluated_step_ == step_) state.validation_loss = evaluation_.loss;
  if (!tokenizer_json_.empty()) state.texts["tokenizer.json"] = tokenizer_json_;
  const auto tensors = checkpoint_tensors(device_, tensors_);
  if (run_.train.async_checkpoints) {
    RETURN_IF_ERROR(saver_->start(std::move(state), tensors));
  } else {
    RETURN_IF_ERROR(save_checkpoint(files_, run_.out + "/checkpoints", state, tensors));
    RETURN_IF_ERROR(prune_checkpoints(files_, run_.out + "/checkpoints", run_.train.keep_last, run_.train.keep_best));
  }
  last_saved_step_ = step_;
  observer_.on_checkpoint(step_);
  return ok_status();
}

Result<TrainResult> Trainer::run(const std::atomic<bool>& stop_requested) {
  while (step_ < run_.train.steps) {
    StepReport report;
    ASSIGN_OR_RETURN(const bool done, train_step(stop_requested, report));
    if (!done) return finish(StopReason::kInterrupted, stop_requested);
    RETURN_IF_ERROR(after_step(report, stop_requested));
    if (run_.train.max_seconds > 0 && training_seconds_ >= run_.train.max_seconds)
      return finish(StopReason::kOutOfTime, stop_requested);
  }
  return finish(StopReason::kFinished, stop_requested);
}

Result<TrainResult> Trainer::finish(StopReason reason, const std::atomic<bool>& stop_requested) {
  if (reason != StopReason::kInterrupted && last_evaluated_step_ != step_) {
    const Status evaluated = evaluate(stop_requested);
    if (!evaluated.ok() && evaluated.code() != ErrorCode::kInterrupted) return evaluated;
  }
  // Also right behind a skipped step: it left parameters and optimizer as they were.
  if (last_saved_step_ != step_) RETURN_IF_ERROR(save());
  RETURN_IF_ERROR(saver_->wait());
  RETURN_IF_ERROR(metrics_->close());
  return TrainResult{.reason = reason,
                     .step = step_,
                     .training_seconds = training_seconds_,
                     .final_evaluation = evaluation_,
                     .best_validation_loss = best_validation_loss_};
}

std::vector<MemoryLine> Trainer::memory_table() const {
  int64_t parameters = 0, gradients = 0, optimizer = 0, inputs = inputs_.num_bytes();
  for (const auto& [name, entry] : tensors_.entries())
    (entry.role == Role::kParameter  ? parameters
     : entry.role == Role::kGradient ? gradients
                                     : optimizer) += entry.memory->num_bytes();
  const int64_t snapshot = run_.train.async_checkpoints ? parameters + optimizer : 0;
  return {
      {"parameters", parameters},
      {"gradients", gradients},
      {"partial sums of gradients", gradients_->num_bytes()},
      {"optimizer state", optimizer},
      {"inputs", inputs},
      {"activations and scratch", std::max({microbatch_->memory_plan().arena_bytes, update_->memory_plan().arena_bytes,
                                            evaluator_->executable().memory_plan().arena_bytes})},
      {"weights packed for the device", microbatch_->packed_bytes()},
      {"copy for checkpoints", snapshot}};
}

}  // namespace colossus
