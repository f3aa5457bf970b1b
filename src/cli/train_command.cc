#include "cli/train_command.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/platform.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "data/tokenizer_identity.h"
#include "device/cpu/cpu_device.h"
#include "infer/generate.h"
#include "io/config.h"
#include "train/trainer.h"

namespace colossus {
namespace {

constexpr double kLn2 = 0.6931471805599453;

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> data;
  std::string out;
  bool fresh = false;
  bool show_memory = false;
};

// Prints what happens, and makes samples.
class TerminalObserver final : public TrainObserver {
 public:
  TerminalObserver(FileSystem& files, Device& device) : files_(files), device_(device) {}

  void begin(Trainer& trainer, double nats_to_bits_per_byte, const Tokenizer* tokenizer) {
    trainer_ = &trainer;
    tokenizer_ = tokenizer;
    nats_to_bits_per_byte_ = nats_to_bits_per_byte;
    progress_ = std::make_unique<Progress>(
        ProgressOptions{.label = "train", .unit = "steps", .total = static_cast<double>(trainer.config().train.steps)});
  }
  void end() {
    if (progress_) progress_->finish();
  }

  void on_step(const StepReport& report) override {
    smoothed_loss_ = smoothed_loss_ == 0 || report.skipped ? report.loss : 0.9 * smoothed_loss_ + 0.1 * report.loss;
    smoothed_seconds_ = smoothed_seconds_ == 0 ? report.seconds : 0.9 * smoothed_seconds_ + 0.1 * report.seconds;
    const double tokens_per_second = static_cast<double>(report.num_tokens) / smoothed_seconds_;
    const double share =
        tokens_per_second * trainer_->flops_per_token() / device_.peak_flops(trainer_->compute_dtype());
    const ProgressField fields[] = {{"loss", fmt::format("{:.3f}", smoothed_loss_)},
                                    {"", fmt::format("{} tokens/s", format_quantity(tokens_per_second))},
                                    {"", fmt::format("{:.0f}% of peak", 100 * share)},
                                    {"val", validation_.empty() ? "-" : validation_}};
    progress_->update(static_cast<double>(report.step), fields);
  }
  void on_evaluation(const EvaluationReport& report) override {
    validation_ = fmt::format("{:.4f}", report.evaluation.loss);
    progress_->note(fmt::format("step {}: validation loss {:.4f} nats/token, {:.4f} bits/byte{}", report.step,
                                report.evaluation.loss, report.evaluation.loss * nats_to_bits_per_byte_,
                                report.is_best ? " (best)" : ""));
  }
  void on_sample(int64_t step) override {
    if (!tokenizer_) return;
    const Status sampled = print_sample(step);
    if (!sampled.ok()) on_note("no sample: " + sampled.message());
  }
  void on_note(const std::string& text) override {
    if (progress_)
      progress_->note(text);
    else
      std::fprintf(stderr, "%s\n", text.c_str());
  }

 private:
  Status print_sample(int64_t step) {
    const TrainConfig& t = trainer_->config().train;
    if (!session_) {
      ASSIGN_OR_RETURN(session_, DecodeSession::create(device_, trainer_->tensors(), trainer_->config().model,
                                                       {.compute = trainer_->compute_dtype()}));
    }
    session_->truncate(0, 0);
    ASSIGN_OR_RETURN(auto prompt, tokenizer_->encode(t.sample_prompt));
    if (prompt.empty()) prompt.push_back(0);
    const std::vector<int32_t> prompts[] = {std::move(prompt)};
    const GenerateOptions options{
        .sampler = {.seed = step}, .max_tokens = t.sample_tokens, .stop_ids = {}, .stop_strings = {}};
    ASSIGN_OR_RETURN(const auto generations,
                     generate(*session_, *tokenizer_, prompts, options, [](int64_t, std::string_view) {}));
    progress_->note(fmt::format("step {} sample: {}{}", step, t.sample_prompt, generations.front().text));
    return ok_status();
  }

  FileSystem& files_;
  Device& device_;
  Trainer* trainer_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  double nats_to_bits_per_byte_ = 0;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<DecodeSession> session_;
  double smoothed_loss_ = 0, smoothed_seconds_ = 0;
  std::string validation_;
};

void print_memory(const Trainer& trainer) {
  double total = 0;
  for (const MemoryLine& line : trainer.memory_table()) {
    std::fprintf(stderr, "  %10s  %s\n", format_quantity(static_cast<double>(line.bytes), "bytes").c_str(),
                 line.what.c_str());
    total += static_cast<double>(line.bytes);
  }
  std::fprintf(stderr, "  %10s  in all; peak so far %s, peak over plan %.3f\n", format_quantity(total, "bytes").c_str(),
               format_quantity(static_cast<double>(peak_resident_bytes()), "bytes").c_str(),
               static_cast<double>(peak_resident_bytes()) / total);
}

Status print_header(const Trainer& trainer, Device& device) {
  const RunConfig& run = trainer.config();
  ASSIGN_OR_RETURN(const auto counts, count_parameters(run.model));
  double memory = 0;
  for (const MemoryLine& line : trainer.memory_table()) memory += static_cast<double>(line.bytes);
  std::fprintf(stderr, "%s\n", device.description().c_str());
  std::fprintf(stderr, "model: %lld layers, width %lld, %s parameters (%s active), vocabulary %lld, %s\n",
               static_cast<long long>(run.model.num_layers), static_cast<long long>(run.model.width),
               format_quantity(static_cast<double>(counts.total)).c_str(),
               format_quantity(static_cast<double>(counts.active)).c_str(),
               static_cast<long long>(run.model.vocab_size), std::string(dtype_name(trainer.compute_dtype())).c_str());
  std::fprintf(stderr,
               "step: %lld sequences of %lld tokens in microbatches of %lld; %s training tokens; %s of memory\n",
               static_cast<long long>(run.train.batch), static_cast<long long>(run.train.tokens),
               static_cast<long long>(run.train.microbatch),
               format_quantity(static_cast<double>(trainer.train_data().num_tokens())).c_str(),
               format_quantity(memory, "bytes").c_str());
  if (trainer.step() > 0)
    std::fprintf(stderr, "resuming %s after step %lld\n", run.out.c_str(), static_cast<long long>(trainer.step()));
  return ok_status();
}

// The file, --set over it, and --data and --out over both.
Result<RunConfig> read_config(FileSystem& files, const TrainArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  std::string sources;
  for (const std::string& path : arguments.data)
    sources += (sources.empty() ? "" : ", ") + fmt::format("{{path = '{}'}}", path);
  if (!sources.empty()) overrides.push_back("data.sources=[" + sources + "]");
  if (!arguments.out.empty()) overrides.push_back("out=" + arguments.out);
  if (arguments.config.empty()) return parse_config<RunConfig>("", "command line", overrides);
  return load_config<RunConfig>(files, arguments.config, overrides);
}

struct TokenizerFile {
  std::string text;
  Tokenizer tokenizer;
};

// The configured tokenizer or the one beside the first shards; refused when the shards were built with another.
Result<TokenizerFile> read_tokenizer(FileSystem& files, const DataConfig& data) {
  if (data.sources.empty())
    return invalid("[data.sources] none; build shards with `colossus data build` and name their directory: --data DIR");
  const std::string& shards = data.sources.front().path;
  ASSIGN_OR_RETURN(const ShardIndex index, read_shard_index(files, shards));
  const std::string path = data.tokenizer.empty() ? shards + "/tokenizer.json" : data.tokenizer;
  ASSIGN_OR_RETURN(std::string text, read_file(files, path));
  auto tokenizer = Tokenizer::from_json(text);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  if (shard_identity(*tokenizer) != index.identity)
    return invalid(fmt::format(
        "[{}] is not the tokenizer that {} was built with; name that one with --set data.tokenizer=FILE, or run "
        "`colossus data build` again",
        path, shards));
  return TokenizerFile{std::move(text), std::move(*tokenizer)};
}

Status train(const TrainArguments& arguments) {
  FileSystem& files = local_files();
  ASSIGN_OR_RETURN(RunConfig run, read_config(files, arguments));
  ASSIGN_OR_RETURN(TokenizerFile tokenizer, read_tokenizer(files, run.data));
  if (arguments.fresh)
    for (const char* name : {"/checkpoints", "/metrics.jsonl", "/events"})
      RETURN_IF_ERROR(files.remove_all(run.out + name));
  ASSIGN_OR_RETURN(const auto device, make_cpu_device({.num_threads = static_cast<int>(run.train.threads)}));
  TerminalObserver observer(files, *device);
  ASSIGN_OR_RETURN(const auto trainer,
                   Trainer::create(std::move(run), files, *device, std::move(tokenizer.text), observer));
  RETURN_IF_ERROR(print_header(*trainer, *device));
  if (arguments.show_memory) {
    print_memory(*trainer);
    std::fprintf(stderr, "first step began after %.2f s\n", process_age_seconds());
  }
  const ShardCounts validation = trainer->validation_totals();
  const double bits = validation.num_source_bytes == 0 ? 0
                                                       : static_cast<double>(validation.num_tokens) /
                                                             static_cast<double>(validation.num_source_bytes) / kLn2;
  const InterruptScope interrupt("saving and stopping; Ctrl-C again stops at once");
  observer.begin(*trainer, bits, &tokenizer.tokenizer);
  const auto result = trainer->run(interrupt.requested());
  observer.end();
  RETURN_IF_ERROR(result.status());
  if (arguments.show_memory) print_memory(*trainer);
  const std::string again =
      arguments.config.empty() ? "the same command" : "colossus train " + arguments.config + " (with the same --set)";
  if (result->reason == StopReason::kInterrupted) {
    std::fprintf(stderr, "stopped after step %lld, saved in %s/checkpoints; go on with: %s\n",
                 static_cast<long long>(result->step), trainer->config().out.c_str(), again.c_str());
    return interrupted("");
  }
  std::fprintf(stderr,
               "%s after step %lld: validation loss %.4f nats/token, %.4f bits/byte; %.1f s of training\ntalk to it: "
               "colossus generate %s --prompt \"...\"\n",
               result->reason == StopReason::kOutOfTime ? "time is up" : "done", static_cast<long long>(result->step),
               result->final_evaluation.loss, result->final_evaluation.loss * bits, result->training_seconds,
               trainer->config().out.c_str());
  return ok_status();
}

}  // namespace

void add_train_command(Command root) {
  auto arguments = std::make_shared<TrainArguments>();
  Command command = root.add_command("train", "Train a model, or go on with a run that was stopped");
  command.option("config", arguments->config, "configuration, for example configs/runs/shakespeare.toml");
  command.option("--set", arguments->overrides, "a.b=value over the configuration; repeatable");
  command.option("--data", arguments->data, "directory of token shards, instead of [[data.sources]]; repeatable");
  command.option("--out", arguments->out, "directory of the run, instead of `out`");
  command.flag("--fresh", arguments->fresh, "delete the run's checkpoints and metrics and start over");
  command.flag("--memory", arguments->show_memory, "print what takes memory, before and after");
  command.footer([] { return "Settings (file or --set):\n" + format_field_help(describe_config<RunConfig>(), 110); });
  command.run([arguments] { return train(*arguments); });
}

}  // namespace colossus
