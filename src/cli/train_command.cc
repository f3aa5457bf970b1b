#include "cli/train_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/clock.h"
#include "base/directory_lock.h"
#include "base/platform.h"
#include "checkpoint/checkpoint.h"
#include "cli/cluster_place.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/open_device.h"
#include "cli/orphan_watch.h"
#include "cli/progress.h"
#include "cli/run_layout.h"
#include "cli/terminal.h"
#include "data/tokenizer_identity.h"
#include "infer/generate.h"
#include "io/config.h"
#include "io/s3/s3_files.h"
#include "model/generation_tokens.h"
#include "train/recovery/supervisor.h"
#include "train/recovery/worker.h"
#include "train/trace_file.h"
#include "train/trainer.h"

namespace colossus {
namespace {

// In the environment of a worker: where it speaks with its supervisor, and the address of the store in which the ranks
// of several machines meet.
constexpr const char* kStoreVariable = "COLOSSUS_STORE";
constexpr const char* kRunStoreVariable = "COLOSSUS_RUN_STORE";

constexpr double kLn2 = 0.6931471805599453;

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> data;
  std::string out;
  bool fresh = false;
  bool show_memory = false;
  int64_t ranks = 0;  // 0: as [mesh] says
  double hang_after = 30;
  std::string trace, trace_steps;
  ClusterArguments cluster;
  std::string outcome;
};

// What is asked for, if anything is.
Result<std::unique_ptr<Trace>> make_trace(const TrainArguments& arguments) {
  if (arguments.trace.empty() && !arguments.trace_steps.empty())
    return invalid("--trace-steps says which steps; give --trace FILE as well, where they are to be written");
  if (arguments.trace.empty()) return nullptr;
  TraceOptions options{.path = arguments.trace};
  if (!arguments.trace_steps.empty()) {
    ASSIGN_OR_RETURN(std::tie(options.first_step, options.last_step), parse_trace_steps(arguments.trace_steps));
  }
  return std::make_unique<Trace>(std::move(options));
}

// How long a machine may be silent, and how soon it must stop by itself when it is: before the others do without it.
double dead_after(const TrainArguments& arguments) { return arguments.hang_after / 2; }
double lease_seconds(const TrainArguments& arguments) { return 0.75 * dead_after(arguments); }

int ranks_on_machine(const RunConfig& run, const ClusterPlace& place) {
  return static_cast<int>(run.mesh.num_ranks()) / place.machines;
}

// Prints what happens, and makes samples.
class TerminalObserver final : public TrainObserver {
 public:
  // speaks: also before begin(); of several ranks only one does.
  TerminalObserver(FileSystem& files, Device& device, bool speaks = true)
      : files_(files), device_(device), speaks_(speaks) {}

  // Until then, and between runs, it keeps silent.
  void begin(Trainer& trainer, double nats_to_bits_per_byte, const Tokenizer* tokenizer) {
    session_.reset();
    trainer_ = &trainer;
    tokenizer_ = tokenizer;
    nats_to_bits_per_byte_ = nats_to_bits_per_byte;
    progress_ = std::make_unique<Progress>(
        ProgressOptions{.label = "train", .unit = "steps", .total = static_cast<double>(trainer.config().train.steps)});
  }
  void end() {
    if (progress_) progress_->finish();
    progress_.reset();
    trainer_ = nullptr;
  }

  void on_step(const StepReport& report) override {
    if (!progress_) return;
    smoothed_loss_ = smoothed_loss_ == 0 || report.skipped ? report.loss : 0.9 * smoothed_loss_ + 0.1 * report.loss;
    smoothed_seconds_ = smoothed_seconds_ == 0 ? report.seconds : 0.9 * smoothed_seconds_ + 0.1 * report.seconds;
    const double tokens_per_second = static_cast<double>(report.num_tokens) / smoothed_seconds_;
    const double share =
        tokens_per_second * trainer_->flops_per_token() /
        (device_.peak_flops(trainer_->compute_dtype()) * static_cast<double>(trainer_->ranks().size()));
    const ProgressField fields[] = {{"loss", fmt::format("{:.3f}", smoothed_loss_)},
                                    {"", fmt::format("{} tokens/s", format_quantity(tokens_per_second))},
                                    {"", fmt::format("{:.0f}% of peak", 100 * share)},
                                    {"val", validation_.empty() ? "-" : validation_}};
    progress_->update(static_cast<double>(report.step), fields);
  }
  void on_evaluation(const EvaluationReport& report) override {
    if (!progress_) return;
    validation_ = fmt::format("{:.4f}", report.evaluation.loss);
    progress_->note(fmt::format("step {}: validation loss {:.4f} nats/token, {:.4f} bits/byte{}", report.step,
                                report.evaluation.loss, report.evaluation.loss * nats_to_bits_per_byte_,
                                report.is_best ? " (best)" : ""));
  }
  void on_sample(int64_t step) override {
    if (!tokenizer_ || !progress_) return;
    const Status sampled = print_sample(step);
    if (!sampled.ok()) on_note("no sample: " + sampled.message());
  }
  void on_note(const std::string& text) override {
    if (progress_)
      progress_->note(text);
    else if (speaks_)
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
  const bool speaks_;
  Trainer* trainer_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  double nats_to_bits_per_byte_ = 0;
  std::unique_ptr<Progress> progress_;
  std::unique_ptr<DecodeSession> session_;
  double smoothed_loss_ = 0, smoothed_seconds_ = 0;
  std::string validation_;
};

void print_memory(const std::vector<MemoryLine>& table) {
  double total = 0;
  for (const MemoryLine& line : table) {
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

double bits_per_nat(const ShardCounts& validation) {
  if (validation.num_source_bytes == 0) return 0;
  return static_cast<double>(validation.num_tokens) / static_cast<double>(validation.num_source_bytes) / kLn2;
}

// How a run ended, and what to do next.
Status print_result(const TrainArguments& arguments, const RunConfig& run, const TrainResult& result, double bits) {
  const std::string again =
      arguments.config.empty() ? "the same command" : "colossus train " + arguments.config + " (with the same --set)";
  if (result.reason == StopReason::kInterrupted) {
    std::fprintf(stderr, "stopped after step %lld, saved in %s; go on with: %s\n", static_cast<long long>(result.step),
                 run.checkpoint_directory().c_str(), again.c_str());
    return interrupted("");
  }
  const std::string model = run.train.checkpoint_directory.empty() ? run.out : run.checkpoint_directory();
  std::fprintf(stderr,
               "%s after step %lld: validation loss %.4f nats/token, %.4f bits/byte; %.1f s of training\ntalk to it: "
               "colossus generate %s --prompt \"...\"\n",
               result.reason == StopReason::kOutOfTime ? "time is up" : "done", static_cast<long long>(result.step),
               result.final_evaluation.loss, result.final_evaluation.loss * bits, result.training_seconds,
               model.c_str());
  return ok_status();
}

Status train_alone(const TrainArguments& arguments, FileSystem& files, RunConfig run, TokenizerFile tokenizer) {
  ASSIGN_OR_RETURN(const auto trace, make_trace(arguments));
  ASSIGN_OR_RETURN(const auto device, open_device({.device = run.train.device,
                                                   .threads = static_cast<int>(run.train.threads),
                                                   .trace = trace.get(),
                                                   .asked_by = "train.device"}));
  TerminalObserver observer(files, *device);
  ASSIGN_OR_RETURN(const auto trainer,
                   Trainer::create(std::move(run), files, *device, std::move(tokenizer.text), observer));
  RETURN_IF_ERROR(print_header(*trainer, *device));
  if (arguments.show_memory) {
    print_memory(trainer->memory_table());
    std::fprintf(stderr, "first step began after %.2f s\n", process_age_seconds());
  }
  const double bits = bits_per_nat(trainer->validation_totals());
  const InterruptScope interrupt("saving and stopping; Ctrl-C again stops at once");
  observer.begin(*trainer, bits, &tokenizer.tokenizer);
  const auto result = trainer->run(interrupt.requested());
  observer.end();
  RETURN_IF_ERROR(result.status());
  if (arguments.show_memory) print_memory(trainer->memory_table());
  return print_result(arguments, trainer->config(), *result, bits);
}

int place_on_machine() {
  const char* const place = std::getenv(kPlaceVariable);
  return place == nullptr ? 0 : std::atoi(place);
}

// One rank's process; started by supervise() below. What it has to say of errors goes to the supervisor.
Status work(const TrainArguments& arguments, FileSystem& files, const RunConfig& run, const TokenizerFile& tokenizer,
            const ClusterPlace& place, const std::string& name) {
  const char* const store_directory = std::getenv(kStoreVariable);
  const char* const life = std::getenv(kLifeVariable);
  if (store_directory == nullptr || life == nullptr)
    return invalid(
        fmt::format("{} is set, but {} or {} is not; they are for processes that `colossus train --ranks` "
                    "starts",
                    kWorkerVariable, kStoreVariable, kLifeVariable));
  ASSIGN_OR_RETURN(const auto store, open_directory_store(store_directory));
  const char* const address = std::getenv(kRunStoreVariable);
  ASSIGN_OR_RETURN(const auto run_store, open_store(address != nullptr ? address : store_directory));
  const auto meeting_store = part_of_store(*run_store, life);
  const auto train_as_rank = [&]() -> Status {
    const int threads = run.train.threads > 0 ? static_cast<int>(run.train.threads)
                                              : std::max(1, num_usable_cores() / ranks_on_machine(run, place));
    ASSIGN_OR_RETURN(const auto trace, make_trace(arguments));
    ASSIGN_OR_RETURN(const auto device, open_device({.device = run.train.device,
                                                     .threads = threads,
                                                     .place = place_on_machine(),
                                                     .ranks = ranks_on_machine(run, place),
                                                     .pin = false,
                                                     .trace = trace.get(),
                                                     .asked_by = "train.device"}));
    TerminalObserver observer(files, *device, false);
    double bits = 0;
    std::vector<MemoryLine> memory;
    bool first = false, header_was_printed = false;
    // A terminal may stop what is not in its foreground when it writes.
    ::signal(SIGTTOU, SIG_IGN);
    OrphanWatch orphan(arguments.hang_after);
    Worker worker({.id = name,
                   .ranks_on_machine = ranks_on_machine(run, place),
                   .timeout_seconds = std::max(60.0, 2 * arguments.hang_after),
                   .heartbeat_seconds = place.alone() ? 0.5 : std::min(0.5, lease_seconds(arguments) / 8),
                   .lease_seconds = place.alone() ? 0 : lease_seconds(arguments),
                   .interface = place.interface,
                   .machine = place.alone() ? "" : place.machine,
                   .on_heartbeat = [&](int64_t progress) { orphan.look(progress); }},
                  *store, *meeting_store, [&](Trainer& trainer) {
                    observer.end();
                    first = trainer.ranks().first();
                    bits = bits_per_nat(trainer.validation_totals());
                    if (!first) return;
                    if (!header_was_printed && trainer.step() == 0) static_cast<void>(print_header(trainer, *device));
                    header_was_printed = true;
                    memory = trainer.memory_table();
                    if (arguments.show_memory) print_memory(memory);
                    observer.begin(trainer, bits, &tokenizer.tokenizer);
                  });
    const InterruptScope interrupt("");
    const auto result = worker.run(run, files, *device, tokenizer.text, observer, interrupt.requested());
    observer.end();
    RETURN_IF_ERROR(result.status());
    if (first && arguments.show_memory) print_memory(memory);
    if (first) return print_result(arguments, run, *result, bits);
    return result->reason == StopReason::kInterrupted ? interrupted("") : ok_status();
  };
  const Status status = train_as_rank();
  if (status.ok()) return status;
  static_cast<void>(write_last_words(*store, name, status.message()));
  return Status(status.code(), "");
}

// Where the ranks of a machine meet: in memory where the system has a place for that, because they write often. The
// name is the run's and the machine's, so that what a killed supervisor left behind is found and removed by the next.
std::array<std::string, 2> store_directories(const std::string& out, const ClusterPlace& place) {
  std::error_code ignored;
  const std::string machine = place.alone() ? "" : "@" + place.machine;
  const std::string run = std::filesystem::absolute(out, ignored).string() + machine;
  return {fmt::format("/dev/shm/colossus-{}-{:016x}", ::getuid(), std::hash<std::string>()(run)),
          out + "/ranks" + machine};
}

Result<std::string> make_store_directory(FileSystem& files, const std::string& out, const ClusterPlace& place) {
  Status made;
  for (const std::string& directory : store_directories(out, place)) {
    made = files.remove_all(directory);
    if (made.ok()) made = files.make_directories(directory);
    if (made.ok()) return directory;
  }
  return made;
}

// A worker's command line: the same run, with nothing left to find out.
std::vector<std::string> worker_command(const TrainArguments& arguments, const RunConfig& run,
                                        const ClusterPlace& place) {
  std::vector<std::string> command = {"/proc/self/exe", "train"};
  const auto pass_on = [&](const char* option, const std::vector<std::string>& values) {
    for (const std::string& value : values) command.insert(command.end(), {option, value});
  };
  if (!arguments.config.empty()) command.push_back(arguments.config);
  pass_on("--set", arguments.overrides);
  pass_on("--data", arguments.data);
  if (!arguments.out.empty()) pass_on("--out", {arguments.out});
  if (run.mesh.automatic)  // they come to the same layout
    pass_on("--ranks", {fmt::format("{}", arguments.ranks)});
  else
    pass_on("--set", {fmt::format("mesh.data={}", run.mesh.data), fmt::format("mesh.shard={}", run.mesh.shard)});
  pass_on("--hang-after", {fmt::format("{}", arguments.hang_after)});
  if (!place.alone()) {
    pass_on("--machines", {fmt::format("{}", place.machines)});
    pass_on("--spares", {fmt::format("{}", place.spares)});
    pass_on("--machine", {place.machine});
    pass_on("--interface", {place.interface});
  }
  if (arguments.show_memory) command.push_back("--memory");
  if (!arguments.trace.empty()) pass_on("--trace", {arguments.trace});
  if (!arguments.trace_steps.empty()) pass_on("--trace-steps", {arguments.trace_steps});
  return command;
}

// For whoever starts the run next: which machines to do without.
void write_given_up(FileSystem& files, const std::string& out, const ClusterPlace& place,
                    const std::vector<std::string>& names) {
  const std::string path = out + "/excluded_nodes";
  const Status written = names.empty()
                             ? files.remove_all(path)
                             : write_file_atomically(files, path, fmt::format("{}\n", fmt::join(names, "\n")));
  if (!written.ok()) std::fprintf(stderr, "%s\n", written.message().c_str());
  if (names.empty()) return;
  const std::string list = fmt::format("{}", fmt::join(names, ","));
  std::fprintf(stderr, "given up, and written to %s: %s\n", path.c_str(), list.c_str());
  if (!place.slurm_job.empty())
    std::fprintf(stderr, "to keep the job off them: scontrol update JobId=%s ExcNodeList=%s\n", place.slurm_job.c_str(),
                 list.c_str());
}

// How the run ended, for scripts that cannot tell it from the exit codes of many machines. Each machine writes the
// same.
void write_outcome(FileSystem& files, const std::string& path, const std::string& out, const ClusterPlace& place,
                   const Status& status) {
  if (path.empty()) return;
  const bool saved = !status.ok() && status.code() == ErrorCode::kInterrupted;
  std::string text = fmt::format("outcome {}\n", status.ok() ? "finished" : saved ? "saved" : "given_up");
  if (!status.ok()) text += fmt::format("reason {}\n", status.message());
  if (auto excluded = read_file(files, out + "/excluded_nodes"); excluded.ok()) {
    while (excluded->ends_with('\n')) excluded->pop_back();
    std::ranges::replace(*excluded, '\n', ',');
    text += fmt::format("excluded {}\n", *excluded);
  }
  // Not all beside the same place at once.
  const std::string beside = path + (place.alone() ? ".new" : "." + place.machine);
  Status written = write_file_atomically(files, beside, text);
  if (written.ok()) written = files.rename(beside, path);
  if (!written.ok()) std::fprintf(stderr, "%s\n", written.message().c_str());
}

SupervisorOptions supervisor_options(const TrainArguments& arguments, FileSystem& files, const RunConfig& run,
                                     const ClusterPlace& place, const std::string& store_directory) {
  const int64_t data_ranks = run.mesh.data * run.mesh.shard;
  SupervisorOptions options{.agent = {.command = worker_command(arguments, run, place),
                                      .environment = {{kStoreVariable, store_directory}},
                                      .faults = {},
                                      // Of one machine the run ends with this process; of several it goes on elsewhere.
                                      .signal_when_parent_ends = place.alone() ? SIGTERM : SIGKILL,
                                      .note =
                                          [](const std::string& text) {
                                            std::fprintf(stderr, "%s%s\n",
                                                         query_terminal(2).interactive ? "\r\033[K" : "", text.c_str());
                                          }},
                            .policy = {.dead_after_seconds = dead_after(arguments),
                                       .hang_after_seconds = arguments.hang_after,
                                       // To read the configuration: the rest is done in a generation.
                                       .start_within_seconds = std::max(20.0, 2 * arguments.hang_after),
                                       .backoff_seconds = 0.05,
                                       .grow_after_seconds = std::min(60.0, 2 * arguments.hang_after)},
                            .shape = {.ranks_per_machine = ranks_on_machine(run, place),
                                      .ranks_per_data_rank = static_cast<int>(run.mesh.num_ranks() / data_ranks),
                                      .data_ranks = static_cast<int>(data_ranks),
                                      .num_spares = place.spares},
                            .mesh = run.mesh,
                            .machine = place.machine,
                            .launch = place.launch,
                            .preferred_machine = place.number};
  if (const char* faults = std::getenv("COLOSSUS_FAULT_OF_RANK"); faults != nullptr) options.agent.faults = faults;
  if (place.alone()) return options;
  options.agent.environment.emplace_back(kRunStoreVariable, place.store);
  options.report_seconds = std::min(0.5, dead_after(arguments) / 10);
  options.store_seconds = 0.1;
  options.election = {.lease_seconds = arguments.hang_after / 3, .renew_seconds = arguments.hang_after / 15};
  options.on_given_up = [&files, place, out = run.out](const std::vector<std::string>& names) {
    write_given_up(files, out, place, names);
  };
  return options;
}

// Starts the ranks of this machine and keeps them running.
Status supervise(const TrainArguments& arguments, FileSystem& files, const RunConfig& run, const ClusterPlace& place) {
  ASSIGN_OR_RETURN(const std::string store_directory, make_store_directory(files, run.out, place));
  ASSIGN_OR_RETURN(const auto machine_store, open_directory_store(store_directory));
  ASSIGN_OR_RETURN(const auto run_store, open_store(place.alone() ? store_directory : place.store));
  if (place.alone())
    std::fprintf(stderr, "%lld ranks: %s\n", static_cast<long long>(run.mesh.num_ranks()),
                 layout_text(run.mesh).c_str());
  else
    std::fprintf(stderr, "%lld ranks on %d machines, of which this is %s; they meet in %s and listen on %s\n",
                 static_cast<long long>(run.mesh.num_ranks()), place.machines, place.machine.c_str(),
                 place.store.c_str(), place.interface.c_str());
  const InterruptScope interrupt("saving and stopping all ranks; Ctrl-C again stops at once");
  Supervisor supervisor(supervisor_options(arguments, files, run, place, store_directory), *run_store, *machine_store);
  const Status status = supervisor.run(interrupt.requested());
  static_cast<void>(files.remove_all(store_directory));
  write_outcome(files, arguments.outcome, run.out, place, status);
  return status;
}

// Whether the newest checkpoint is that of the last step.
bool is_complete(FileSystem& files, const RunConfig& run) {
  std::vector<Status> skipped;
  const auto newest = open_newest_checkpoint(files, run.checkpoint_directory(), skipped);
  return newest.ok() && newest->state().step >= run.train.steps;
}

// One of several machines. Who may write to `out` is settled in the store.
Status join_machines(const TrainArguments& arguments, FileSystem& files, const RunConfig& run,
                     const ClusterPlace& place) {
  if (arguments.fresh)
    return invalid("--fresh with several machines: they start one after the other; remove " + run.out + " before");
  RETURN_IF_ERROR(files.make_directories(run.out));
  // Started again when the others had ended, it would wait for them.
  if (is_complete(files, run)) {
    std::fprintf(stderr, "%s has all %lld steps\n", run.out.c_str(), static_cast<long long>(run.train.steps));
    // Of a life that was lost with its machine.
    for (const std::string& directory : store_directories(run.out, place))
      static_cast<void>(files.remove_all(directory));
    write_outcome(files, arguments.outcome, run.out, place, ok_status());
    return ok_status();
  }
  return supervise(arguments, files, run, place);
}

// For this process and the ranks it starts. Those of a call before that was killed may still be saving.
Result<DirectoryLock> lock_run(FileSystem& files, const std::string& out) {
  RETURN_IF_ERROR(files.make_directories(out));
  constexpr double kPatienceSeconds = 60;
  const double begun = monotonic_seconds();
  for (bool said = false;; said = true) {
    auto lock = DirectoryLock::take(out);
    if (lock.ok() || lock.status().code() != ErrorCode::kUnavailable) return lock;
    if (monotonic_seconds() - begun > kPatienceSeconds)
      return unavailable(
          fmt::format("[{}] another `colossus train` runs there; stop it, or give this run another --out", out));
    if (!said) std::fprintf(stderr, "waiting for another `colossus train` in %s to save and end\n", out.c_str());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Status train(const TrainArguments& arguments) {
  FileSystem& files = all_files();
  ASSIGN_OR_RETURN(RunConfig run, read_config(files, arguments));
  ASSIGN_OR_RETURN(TokenizerFile tokenizer, read_tokenizer(files, run.data));
  ASSIGN_OR_RETURN(const ClusterPlace place, find_cluster_place(arguments.cluster, run.out));
  RETURN_IF_ERROR(lay_out(files, {.ranks = arguments.ranks, .machines = place.machines}, run));
  if (run.mesh.num_ranks() > 1 && run.train.device.starts_with("cuda:"))
    return invalid(
        fmt::format("[train.device] is \"{}\", one GPU, and the run has {} ranks; say cuda, and each takes the GPU of "
                    "its place on the machine, or cpu",
                    run.train.device, run.mesh.num_ranks()));
  if (const char* worker = std::getenv(kWorkerVariable); worker != nullptr)
    return work(arguments, files, run, tokenizer, place, worker);
  RETURN_IF_ERROR(make_trace(arguments));
  if (!place.alone()) return join_machines(arguments, files, run, place);
  ASSIGN_OR_RETURN(const DirectoryLock lock, lock_run(files, run.out));
  // That it has no place is said now, not behind its last step.
  if (!arguments.trace.empty()) RETURN_IF_ERROR(files.create(arguments.trace));
  if (arguments.fresh)
    for (const std::string& path :
         {run.checkpoint_directory(), run.out + "/metrics.jsonl", run.out + "/events", run.out + "/" + kGenerationFile})
      RETURN_IF_ERROR(files.remove_all(path));
  return run.mesh.num_ranks() > 1 ? supervise(arguments, files, run, place)
                                  : train_alone(arguments, files, std::move(run), std::move(tokenizer));
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
  command.option("--ranks", arguments->ranks, "processes that share the work, of all machines; 0: as [mesh] says",
                 {.min = 0});
  ClusterArguments& cluster = arguments->cluster;
  command.option(
      "--machines", cluster.machines,
      "machines that run the same command with an equal share of the ranks; 0: those of Slurm's step, or this",
      {.min = 0});
  command.option("--spares", cluster.spares, "further machines, which take the place of one that is lost", {.min = 0});
  command.option("--machine", cluster.machine, "this machine's name; else the host's");
  command.option("--store", cluster.store,
                 "where machines meet: /shared/directory or etcd://host:port/prefix; else OUT/store");
  command.option("--interface", cluster.interface,
                 "network interface for other machines' ranks; else the one that leads to the store");
  command.option("--hang-after", arguments->hang_after, "seconds after which a rank that gets nowhere is started again",
                 {.min = 1});
  command.option("--outcome", arguments->outcome,
                 "file for how a run of several ranks ended: finished, saved or given_up");
  command.flag("--memory", arguments->show_memory, "print what takes memory, before and after");
  command.option("--trace", arguments->trace, "write a timeline of all ranks to this file, for ui.perfetto.dev");
  command.option("--trace-steps", arguments->trace_steps,
                 "with --trace: first and last step, such as 3:6; else as many of the last ones as there is room for");
  command.footer([] { return "Settings (file or --set):\n" + format_field_help(describe_config<RunConfig>(), 110); });
  command.run([arguments] { return train(*arguments); });
}

}  // namespace colossus
