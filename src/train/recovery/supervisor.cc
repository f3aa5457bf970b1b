#include "train/recovery/supervisor.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/milestone.h"
#include "train/recovery/waits.h"

namespace colossus {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(20);

FleetShape shape_of(const MeshConfig& mesh) {
  const auto num_ranks = static_cast<int>(mesh.num_ranks());
  return {.ranks_per_machine = num_ranks, .ranks_per_data_rank = 1, .data_ranks = num_ranks, .num_spares = 0};
}

}  // namespace

Status Supervisor::start(int64_t rank) {
  auto& worker = workers_[static_cast<size_t>(rank)];
  worker.reset();  // kills what is left of the one before
  const int64_t ordinal = ++num_started_[static_cast<size_t>(rank)];
  const std::string name = fmt::format("w{}.{}", rank, ordinal);
  ChildProcess::Options options{.arguments = options_.command,
                                .environment = options_.environment,
                                .own_group = true,
                                .signal_when_parent_ends = SIGTERM};
  options.environment.emplace_back(kWorkerVariable, name);
  if (!options_.faults.empty())
    options.environment.emplace_back("COLOSSUS_FAULT", faults_of_process(options_.faults, rank, ordinal));
  ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::start(options));
  worker.emplace(WorkerProcess{
      .name = name, .started_in = fleet_.generation, .process = std::move(process), .last_words = {}, .heartbeat = {}});
  return ok_status();
}

Status Supervisor::begin_generation() {
  Membership generation{.id = fleet_.generation + 1,  // the store's begin at 1
                        .data = options_.mesh.data,
                        .shard = options_.mesh.shard,
                        .workers = {}};
  for (const auto& worker : workers_) generation.workers.push_back(worker->name);
  return publish(store_, generation);
}

void Supervisor::listen(double now) {
  observe(fleet_, MachineHeartbeat{.time = now, .first_machine = 0, .end_machine = 1});
  for (size_t i = 0; i < workers_.size(); ++i) {
    auto& worker = workers_[i];
    if (!worker) continue;
    const int rank = static_cast<int>(i);
    if (const auto end = worker->process.poll()) {
      if (worker->end) continue;
      worker->end = end;
      worker->last_words = read_last_words(store_, worker->name).ok() ? *read_last_words(store_, worker->name) : "";
      // One that is lost when all is done is no loss.
      const auto finished = has_finished(store_, fleet_.generation + 1, worker->name);
      const bool lost = !end->ok() && !(finished.ok() && *finished);
      if (lost && !stopping_) {
        if (fault_at_ < 0) fault_after_step_ = fleet_.best_step;
        if (fault_at_ < 0) fault_at_ = now;
        note_(fmt::format("rank {} ended after step {}: {}{}{}", rank, std::max<int64_t>(0, worker->heartbeat.step),
                          end->to_string(), worker->last_words.empty() ? "" : ": ", worker->last_words));
      }
      observe(fleet_, RankExit{.machine = 0,
                               .local_rank = rank,
                               .process = worker->started_in,
                               .code = lost ? end->exit_code : 0,
                               .signal = lost ? end->signal : 0});
      continue;
    }
    const auto heard = read_heartbeat(store_, worker->name);
    if (!heard.ok() || !*heard) continue;
    // The store keeps the last one for ever: only a new beat is a sign of life.
    if ((*heard)->beat == worker->heartbeat.beat) continue;
    worker->heartbeat = **heard;
    observe(fleet_, RankHeartbeat{.time = now,
                                  .first_rank = rank,
                                  .end_rank = rank + 1,
                                  .generation = worker->heartbeat.generation - 1,
                                  .step = worker->heartbeat.step,
                                  .collective = worker->heartbeat.progress,
                                  .waits_in = worker->heartbeat.waits_in});
  }
}

// A step more than before the fault, with everyone there.
void Supervisor::tell_of_recovery(double now) {
  if (fault_at_ < 0) return;
  for (const auto& worker : workers_)
    if (!worker || worker->heartbeat.generation != fleet_.generation + 1 ||
        worker->heartbeat.step <= std::max<int64_t>(0, fault_after_step_))
      return;
  note_(fmt::format("all {} ranks are past step {}, {:.1f} s after the fault", workers_.size(),
                    std::max<int64_t>(0, fault_after_step_), now - fault_at_));
  fault_at_ = -1;
}

Status Supervisor::carry_out(const Decision& decision) {
  bool changed = false;
  for (const Action& action : decision.actions) {
    if (std::holds_alternative<Continue>(action.what)) continue;
    if (const auto* stop = std::get_if<Stop>(&action.what)) {
      if (stop->finished) return ok_status();
      return end_run(action.reason, stop->advice);
    }
    const auto* restart = std::get_if<RestartRanks>(&action.what);
    CHECK(restart != nullptr, "a run on one machine has nobody to move to");
    if (fault_at_ < 0) {
      fault_at_ = monotonic_seconds();
      fault_after_step_ = fleet_.best_step;
    }
    if (const std::string waits = who_waits(store_); !changed && !waits.empty()) note_(waits);
    note_(fmt::format("{}: started again", action.reason));
    for (int64_t rank = restart->first_rank; rank < restart->end_rank; ++rank) RETURN_IF_ERROR(start(rank));
    changed = true;
  }
  return changed ? begin_generation() : ok_status();
}

// Workers that live but lost each other, by a network that failed for a moment: they meet again.
Status Supervisor::join_again_when_broken(double now) {
  std::string why;
  for (const auto& worker : workers_) {
    if (!worker || worker->end.has_value()) return ok_status();  // decide() has something to say about this
    if (const auto broken = read_broken(store_, fleet_.generation + 1, worker->name); broken.ok() && *broken)
      why = **broken;
  }
  if (why.empty()) {
    broken_since_ = -1;
    return ok_status();
  }
  if (broken_since_ < 0) broken_since_ = now;
  // Long enough to hear of the end of a process, if that is why.
  constexpr double kSecondsToHear = 2;
  if (now - broken_since_ < kSecondsToHear) return ok_status();
  broken_since_ = -1;
  constexpr int kMostInARow = 5;
  num_broken_in_a_row_ = fleet_.best_step > broken_at_step_ ? 1 : num_broken_in_a_row_ + 1;
  broken_at_step_ = fleet_.best_step;
  if (num_broken_in_a_row_ > kMostInARow)
    return unavailable(
        fmt::format("the ranks lost each other {} times without a step in between: {}", kMostInARow, why));
  note_("the ranks lost each other, and meet again: " + why);
  ++fleet_.generation;
  fleet_.generation_since = now;
  return begin_generation();
}

Status Supervisor::end_run(const std::string& reason, const std::string& advice) {
  // The error that a worker ended with says more than the decision that followed from it.
  std::string words;
  for (const auto& worker : workers_)
    if (words.empty() && worker && worker->end.has_value()) words = worker->last_words;
  return unavailable(
      fmt::format("{}{}{}{}{}", reason, words.empty() ? "" : ": ", words, advice.empty() ? "" : "; ", advice));
}

bool Supervisor::all_ended() const {
  return std::ranges::all_of(workers_, [](const auto& worker) { return !worker || worker->end.has_value(); });
}

void Supervisor::stop_workers(double now) {
  if (stop_at_ < 0) stop_at_ = now;
  if (!stopping_) {
    // What is in the memory of some ranks can be saved once the others are back.
    const auto can_save = [&](const auto& worker) {
      return worker && !worker->end &&
             (fleet_.generation == 0 ||
              (worker->heartbeat.generation == fleet_.generation + 1 && worker->heartbeat.step >= 0));
    };
    const bool together = fleet_.num_finished > 0 || std::ranges::all_of(workers_, can_save);
    if (!together && now - stop_at_ < options_.policy.hang_after_seconds) return;
    stopping_ = true;
    progress_of_stop_at_ = now;
    for (auto& worker : workers_)
      if (worker) worker->process.send(SIGTERM);
  }
  int64_t progress = 0;
  for (const auto& worker : workers_)
    if (worker) progress += worker->heartbeat.progress + (worker->end ? 1 : 0);
  if (std::exchange(progress_of_stop_, progress) != progress) progress_of_stop_at_ = now;
  if (now - progress_of_stop_at_ < options_.policy.hang_after_seconds) return;
  for (auto& worker : workers_)
    if (worker) worker->process.send(SIGKILL);
}

// The first rank says where the run was saved, and all end with the code for an interruption; unless they could not.
Status Supervisor::end_of_stop() const {
  if (fleet_.best_step < 0) return interrupted("stopped before the first step");
  for (size_t rank = 0; rank < workers_.size(); ++rank) {
    const WorkerProcess& worker = *workers_[rank];
    const ProcessEnd end = *worker.end;
    if (end.signal == 0 && worker.last_words.empty()) continue;
    return interrupted(
        fmt::format("stopped, but rank {} could not save: {}; the same command goes on from the newest "
                    "checkpoint",
                    rank, worker.last_words.empty() ? end.to_string() : worker.last_words));
  }
  return interrupted("");
}

Status Supervisor::run(const std::atomic<bool>& stop_requested) {
  const Status status = watch(stop_requested);
  workers_.clear();  // ends those that still run: before the caller removes what they write to
  return status;
}

Status Supervisor::watch(const std::atomic<bool>& stop_requested) {
  const FleetShape shape = shape_of(options_.mesh);
  RETURN_IF_ERROR(check(shape));
  fleet_ = make_fleet(shape, monotonic_seconds());
  fleet_.machine_names = {"this machine"};
  workers_.resize(static_cast<size_t>(options_.mesh.num_ranks()));
  num_started_.resize(workers_.size());
  for (size_t rank = 0; rank < workers_.size(); ++rank) RETURN_IF_ERROR(start(static_cast<int64_t>(rank)));
  RETURN_IF_ERROR(begin_generation());
  for (double now = monotonic_seconds(), looked_at = now;; looked_at = now) {
    now = monotonic_seconds();
    // This process, or the whole machine, stood still: nobody is silent because of that.
    constexpr double kPause = 1;
    if (now - looked_at > kPause) take_office(fleet_, now);
    listen(now);
    if (stop_requested.load()) stop_workers(now);
    if (stopping_) {
      if (all_ended()) return end_of_stop();
    } else {
      tell_of_recovery(now);
      // One machine, one supervisor: nobody else can lead.
      const Lease lease{.term = 1, .valid_until = now + 1e9};
      const Decision decision = decide(options_.policy, fleet_, lease, now);
      const Status done = carry_out(decision);
      if (fleet_.num_finished == static_cast<int>(workers_.size())) return ok_status();
      RETURN_IF_ERROR(done);
      RETURN_IF_ERROR(join_again_when_broken(now));
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

}  // namespace colossus
