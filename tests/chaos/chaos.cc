#include "chaos.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "io/file_system.h"
#include "small_run.h"

namespace colossus::chaos {
namespace {

// Every kind of update and of collective, evaluations and checkpoints.
constexpr const char* kRest = R"(num_layers = 2
[[data.sources]]
path = "shards"
[train]
steps = {}
batch = 32
microbatch = 2
reduction_leaves = {}
evaluate_every = {}
evaluation_tokens = 1024
checkpoint_every = {}
[optimizer]
kind = "muon"
)";

}  // namespace

std::string text_of_file(const std::string& path) {
  auto text = read_file(local_files(), path);
  return text.ok() ? std::move(*text) : "";
}

namespace {

// What follows `name` in a line of JSON, up to the next comma.
std::string number_in(std::string_view line, std::string_view name) {
  const size_t at = line.find(name);
  if (at == std::string_view::npos) return "";
  const size_t begin = at + name.size();
  return std::string(line.substr(begin, line.find_first_of(",}", begin) - begin));
}

template <class See>
void for_each_line(std::string_view text, const See& see) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    see(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

int count(std::string_view text, std::string_view what) {
  int found = 0;
  for (size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(5)); }

}  // namespace

std::vector<pid_t> processes_with(const std::string& variable) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    // Of a size that stat() does not know. A process that ended has an empty one.
    std::FILE* file = std::fopen((entry.path() / "environ").c_str(), "rb");
    if (file == nullptr) continue;
    std::string environment(1 << 20, '\0');
    environment.resize(std::fread(environment.data(), 1, environment.size(), file));
    std::fclose(file);
    if (environment.find(variable + '\0') != std::string::npos) found.push_back(std::atoi(name.c_str()));
  }
  return found;
}

void add_reason(Verdict& verdict, const std::string& why) { verdict.why += (verdict.why.empty() ? "" : "; ") + why; }

Ground::Ground(GroundOptions options) : options_(std::move(options)) {
  FileSystem& files = local_files();
  CHECK(files.make_directories(options_.directory).ok(), options_.directory.c_str());
  const std::string text = options_.text.empty() ? path("text.txt") : options_.text;
  if (options_.text.empty()) CHECK(write_file_atomically(files, text, small_text(3000)).ok());
  CHECK(write_file_atomically(files, path("run.toml"),
                              kSmallModel + fmt::format(kRest, options_.steps, kLeaves, options_.every, options_.every))
            .ok());
  const auto must = [&](std::vector<std::string> words) {
    words.insert(words.begin(),
                 {"/bin/sh", "-c", "cd \"$0\" && exec \"$@\" >made.log 2>&1", options_.directory, options_.binary});
    auto process = ChildProcess::start({.arguments = words, .environment = {}});
    CHECK(process.ok() && process->wait().ok(), (words.back() + ": " + text_of_file(path("made.log"))).c_str());
  };
  must({"tokenizer", "train", "--vocab", "300", "--out", "tok.json", text});
  must({"data", "build", "--tokenizer", "tok.json", "--out", "shards", text});
  must(with_settings({"train", "run.toml", "--out", "undisturbed", "--ranks", "1"}));
  reference_ = curve_of("undisturbed");
  CHECK(reference_.size() == static_cast<size_t>(options_.steps + options_.steps / options_.every),
        "an undisturbed run has one line a step and one an evaluation");
}

std::vector<std::string> Ground::with_settings(std::vector<std::string> words) const {
  for (const std::string& setting : options_.settings) words.insert(words.end(), {"--set", setting});
  return words;
}

Ground::Run Ground::start(const std::string& out, int ranks,
                          const std::vector<std::pair<std::string, std::string>>& environment,
                          const std::vector<std::string>& more, const std::vector<std::string>& prefix) {
  const std::string log = path(fmt::format("{}.log{}", out, ++num_logs_));
  // exec: the signals that are sent to it shall reach the binary.
  std::vector<std::string> words = {"/bin/sh",
                                    "-c",
                                    "cd \"$0\" && log=$1 && shift && exec \"$@\" >\"$log\" 2>&1",
                                    options_.directory,
                                    log,
                                    options_.binary,
                                    "train",
                                    "run.toml",
                                    "--out",
                                    path(out),  // absolute: workers are looked for by it
                                    "--ranks",
                                    std::to_string(ranks),
                                    "--hang-after",
                                    fmt::format("{}", options_.hang_after_seconds)};
  words = with_settings(std::move(words));
  words.insert(words.end(), more.begin(), more.end());
  words.insert(words.begin(), prefix.begin(), prefix.end());
  auto process = ChildProcess::start({.arguments = words, .environment = environment, .own_group = true});
  CHECK(process.ok(), process.status().message().c_str());
  return {.out = out, .log = log, .process = std::move(*process)};
}

bool Ground::wait(Run& run, ProcessEnd& end) {
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < options_.limit_seconds) {
    if (const auto ended = run.process.poll()) {
      end = *ended;
      return true;
    }
    pause();
  }
  run.process.send(SIGKILL);
  end = run.process.wait();
  return false;
}

bool Ground::wait_for_steps(Run& run, int steps) {
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < options_.limit_seconds && !run.process.poll()) {
    if (num_steps(run.out) >= steps) return true;
    pause();
  }
  return false;
}

int Ground::num_steps(const std::string& out) const {
  return count(text_of_file(path(out + "/metrics.jsonl")), "train/loss");
}

std::string Ground::log_of(const Run& run) const { return text_of_file(run.log); }

std::vector<Ground::Line> Ground::curve_of(const std::string& out) const {
  std::vector<Line> curve;
  for_each_line(text_of_file(path(out + "/metrics.jsonl")), [&](std::string_view line) {
    curve.push_back({.step = std::atoll(number_in(line, "\"step\":").c_str()),
                     .numbers = number_in(line, "\"train/loss\":") + " " + number_in(line, "\"train/grad_norm\":") +
                                " " + number_in(line, "\"validation/loss\":")});
  });
  return curve;
}

bool Ground::newest_checkpoint_is_whole(const std::string& out) {
  const auto entries = local_files().list(path(out + "/checkpoints"));
  if (!entries.ok()) return true;  // killed before the first
  const bool any = std::ranges::any_of(*entries, [](const FileEntry& entry) {
    return entry.name.starts_with("step-") && entry.name.find('.') == std::string::npos;
  });
  if (!any) return true;
  auto process = ChildProcess::start({.arguments = {"/bin/sh", "-c", "cd \"$0\" && exec \"$@\" >verify.log 2>&1",
                                                    options_.directory, options_.binary, "checkpoint", "verify", out},
                                      .environment = {}});
  return process.ok() && process->wait().ok();
}

std::string Ground::store_of(const std::string& run) {
  return fmt::format("/dev/shm/colossus-{}-{:016x}", ::getuid(), std::hash<std::string>()(run));
}

// Where the ranks of a run meet: in one of these, as `colossus train` chooses.
void Ground::look_for_leftovers(const std::string& out, Verdict& verdict) {
  const std::string run = std::filesystem::absolute(path(out)).string();
  for (const std::string& store : {store_of(run), run + "/ranks"}) {
    const std::vector<pid_t> left = processes_with("COLOSSUS_STORE=" + store);
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    if (!left.empty()) add_reason(verdict, fmt::format("{} workers were left behind", left.size()));
    if (local_files().stat(store).ok()) add_reason(verdict, "the directory of the ranks was left behind: " + store);
  }
}

void Ground::judge(const Run& run, const ProcessEnd& end, Verdict& verdict) {
  if (!end.ok()) add_reason(verdict, "the run ended with " + end.to_string());
  judge_curve(run.out, log_of(run), verdict);
  look_for_leftovers(run.out, verdict);
}

void Ground::judge_curve(const std::string& out, const std::string& log, Verdict& verdict) {
  const std::vector<Line> curve = curve_of(out);
  verdict.curve_is_equal = curve == reference_;
  if (!verdict.curve_is_equal) {
    const auto [ours, theirs] = std::ranges::mismatch(curve, reference_);
    add_reason(verdict, ours == curve.end() ? fmt::format("the curve ends after {} lines", curve.size())
                                            : fmt::format("the curve differs from line {} on, step {}",
                                                          ours - curve.begin() + 1, ours->step));
  }
  if (!newest_checkpoint_is_whole(out)) add_reason(verdict, "a checkpoint does not verify");
  // "all 4 ranks are past step 7, 1.3 s after the fault"
  for_each_line(log, [&](std::string_view line) {
    const size_t end_of_number = line.find(" s after the fault");
    if (end_of_number == std::string_view::npos) return;
    const size_t begin = line.rfind(' ', end_of_number - 1) + 1;
    verdict.recovery_seconds.push_back(std::atof(std::string(line.substr(begin, end_of_number - begin)).c_str()));
  });
}

void Ground::tidy(const std::string& out, const Verdict& verdict) {
  if (!verdict.held()) return;
  static_cast<void>(local_files().remove_all(path(out)));
  for (const auto& entry : std::filesystem::directory_iterator(options_.directory))
    if (entry.path().filename().string().starts_with(out + ".log")) std::filesystem::remove(entry.path());
}

void Ground::finish(const std::string& out, int ranks, Verdict& verdict) {
  Run run = start(out, ranks, {});
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run that goes on does not end");
  judge(run, end, verdict);
  tidy(out, verdict);
}

Verdict Ground::survives(int ranks, const std::string& faults, const std::vector<std::string>& more) {
  Verdict verdict;
  Run run = start(new_name(), ranks, {{"COLOSSUS_FAULT_OF_RANK", faults}}, more);
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run does not end");
  judge(run, end, verdict);
  const std::string log = log_of(run);
  verdict.num_faults = count(log, "killed by signal 9") + count(log, " is silent for ") +
                       count(log, " has made no step for ") + count(log, "no rank has made a step for ") +
                       count(log, " computed wrong numbers: started again");
  tidy(run.out, verdict);
  return verdict;
}

Verdict Ground::resumes_after_kill(const std::string& fault) {
  Verdict verdict;
  Run run = start(new_name(), 1, {{"COLOSSUS_FAULT", fault}});
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run does not end");
  verdict.num_faults = end.signal == SIGKILL ? 1 : 0;
  if (!newest_checkpoint_is_whole(run.out)) add_reason(verdict, "a checkpoint does not verify right after the kill");
  finish(run.out, 1, verdict);
  return verdict;
}

Verdict Ground::resumes_after_signal(int ranks, int signal, int after_steps) {
  Verdict verdict;
  Run run = start(new_name(), ranks, {});
  if (!wait_for_steps(run, after_steps)) add_reason(verdict, "the run ended before the signal");
  run.process.send(signal);
  verdict.num_faults = 1;
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run does not end after the signal");
  if (signal != SIGKILL) {
    if (end.exit_code != 130) add_reason(verdict, "stopped with " + end.to_string());
    if (log_of(run).find("stopped after step") == std::string::npos)
      add_reason(verdict, "it does not say where it stopped");
    look_for_leftovers(run.out, verdict);
  }
  // At once: the workers of a killed supervisor may still be saving.
  finish(run.out, ranks, verdict);
  return verdict;
}

Verdict Ground::moves(const std::vector<int>& ranks, int steps_each) {
  Verdict verdict;
  const std::string out = new_name();
  for (size_t i = 0; i + 1 < ranks.size(); ++i) {
    Run run = start(out, ranks[i], {});
    if (!wait_for_steps(run, steps_each * static_cast<int>(i + 1))) add_reason(verdict, "the run ended too early");
    run.process.send(SIGINT);
    ProcessEnd end;
    if (!wait(run, end) || end.exit_code != 130)
      add_reason(verdict, fmt::format("on {} ranks it stopped with {}", ranks[i], end.to_string()));
    ++verdict.num_faults;
  }
  finish(out, ranks.back(), verdict);
  return verdict;
}

Verdict Ground::contradicts_itself(const std::string& faults) {
  Verdict verdict;
  Run run = start(new_name(), 2, {{"COLOSSUS_FAULT_OF_RANK", faults}}, verified());
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run does not end");
  const bool said = log_of(run).find("ranks 0, 1 contradict each other") != std::string::npos;
  if (end.ok() || !said) add_reason(verdict, "it does not say who contradict each other; " + end.to_string());
  verdict.num_faults = said ? 1 : 0;
  look_for_leftovers(run.out, verdict);
  finish(run.out, 2, verdict);
  return verdict;
}

Verdict Ground::gives_up(int ranks, const std::string& faults, const std::string& message) {
  Verdict verdict;
  Run run = start(new_name(), ranks, {{"COLOSSUS_FAULT_OF_RANK", faults}});
  ProcessEnd end;
  if (!wait(run, end)) add_reason(verdict, "the run does not end");
  verdict.num_faults = count(log_of(run), "killed by signal 9");
  if (end.exit_code != 6) add_reason(verdict, "it ended with " + end.to_string());
  if (log_of(run).find(message) == std::string::npos) add_reason(verdict, "it does not say \"" + message + "\"");
  look_for_leftovers(run.out, verdict);
  // With the cause gone the same command ends the run.
  finish(run.out, ranks, verdict);
  return verdict;
}

}  // namespace colossus::chaos
