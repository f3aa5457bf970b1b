#include "train/recovery/coordinator.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/child_process.h"

namespace colossus {
namespace {

size_t at(int index) { return static_cast<size_t>(index); }

}  // namespace

MeshConfig mesh_of(const MeshConfig& run, int64_t num_ranks) {
  MeshConfig mesh = run;
  const int64_t ranks_of_update = num_ranks / (run.num_ranks() / (run.data * run.shard));
  mesh.shard = ranks_of_update % run.shard == 0 ? run.shard : ranks_of_update;
  mesh.data = ranks_of_update / mesh.shard;
  return mesh;
}

Coordinator::Coordinator(CoordinatorOptions options, const std::vector<std::string>& names,
                         const std::vector<std::optional<MachineReport>>& reports, double now)
    : options_(std::move(options)), fleet_(make_fleet(options_.shape, now)) {
  CHECK(names.size() == fleet_.machines.size() && reports.size() == names.size());
  fleet_.machine_names = names;
  machines_.resize(names.size());
  fleet_.spares.clear();
  fleet_.machine_of_slot.clear();
  for (size_t i = 0; i < names.size(); ++i) {
    Machine& machine = fleet_.machines[i];
    machine = {.state = MachineState::kOutOfOrder};
    if (!reports[i]) continue;
    machines_[i] = {.report = *reports[i], .seen_at = now};
    if (fleet_.num_slots() > static_cast<int>(fleet_.machine_of_slot.size())) {
      machine = {.state = MachineState::kInRun, .slot = static_cast<int>(fleet_.machine_of_slot.size())};
      fleet_.machine_of_slot.push_back(static_cast<int>(i));
    } else {
      machine.state = MachineState::kSpare;
      fleet_.spares.emplace(0, static_cast<int>(i));
    }
  }
  CHECK(static_cast<int>(fleet_.machine_of_slot.size()) == fleet_.num_slots(), "too few machines have come");
  remember_slots();
}

Coordinator::Coordinator(CoordinatorOptions options, const Assignment& a, double now)
    : options_(std::move(options)), fleet_(make_fleet(options_.shape, now)), phase_(a.phase), reason_(a.reason) {
  CHECK(a.machines.size() == fleet_.machines.size());
  fleet_.num_blocks = static_cast<int>(a.machine_of_slot.size()) / fleet_.shape.machines_per_block();
  fleet_.machine_of_slot = a.machine_of_slot;
  fleet_.generation = a.generation;
  fleet_.best_step = a.best_step;
  fleet_.num_fruitless = a.num_fruitless;
  fleet_.ranks = RangeMap<RankReport>(fleet_.num_ranks(), {.seen_at = now, .progress_at = now});
  fleet_.processes = a.processes;
  fleet_.spares.clear();
  machines_.resize(a.machines.size());
  for (size_t i = 0; i < a.machines.size(); ++i) {
    const auto& from = a.machines[i];
    fleet_.machine_names.push_back(from.name);
    fleet_.machines[i] = {.state = from.state, .num_faults = from.num_faults};
    machines_[i].report.incarnation = from.incarnation;
    if (from.state == MachineState::kSpare) fleet_.spares.emplace(from.num_faults, static_cast<int>(i));
  }
  for (size_t slot = 0; slot < a.machine_of_slot.size(); ++slot) {
    const int machine = a.machine_of_slot[slot];
    if (machine >= 0)
      fleet_.machines[at(machine)].slot = static_cast<int>(slot);
    else
      fleet_.vacant[static_cast<int>(slot)] = {.machine = -1, .reason = "a machine is missing"};
  }
  for (const auto& [rank, ages] : a.restarts)
    for (const double age : ages) fleet_.history[rank].restarts.push_back(now - age);
  for (const auto& [rank, age] : a.replaced) fleet_.history[rank].replaced_at = now - age;
  take_office(fleet_, now);
  remember_slots();
}

void Coordinator::remember_slots() {
  for (const int machine : fleet_.machine_of_slot)
    if (machine >= 0) machines_[at(machine)].was_in_run = true;
}

void Coordinator::observe(int machine, const std::string& name, const MachineReport& report, double now) {
  Seen& seen = machines_[at(machine)];
  const bool anew = seen.report.incarnation != report.incarnation;
  // The store keeps the last one for ever: only a new beat is a sign of life.
  if (!anew && seen.seen_at >= 0 && seen.report.beat == report.beat) return;
  fleet_.machine_names[at(machine)] = name;
  if (anew) colossus::observe(fleet_, MachineReady{.time = now, .machine = machine});
  colossus::observe(fleet_, MachineHeartbeat{.time = now, .first_machine = machine, .end_machine = machine + 1});
  const MachineReport before = std::exchange(seen.report, report);
  seen.seen_at = now;
  if (report.stop_requested && stop_at_ < 0) stop_at_ = now;
  if (fleet_.machines[at(machine)].state != MachineState::kInRun) return;
  for (size_t i = 0; i < report.ranks.size() && i < at(fleet_.shape.ranks_per_machine); ++i) {
    const bool new_beat = i >= before.ranks.size() || report.ranks[i].ended ||
                          before.ranks[i].process != report.ranks[i].process ||
                          before.ranks[i].heartbeat.beat != report.ranks[i].heartbeat.beat;
    if (new_beat) observe_rank(machine, static_cast<int>(i), report.ranks[i], now);
  }
}

void Coordinator::observe_rank(int machine, int local_rank, const RankRecord& record, double now) {
  const int rank = fleet_.machines[at(machine)].slot * fleet_.shape.ranks_per_machine + local_rank;
  if (fleet_.processes.at(rank) != record.process) return;
  if (!record.ended) {
    if (record.heartbeat.beat > 0)
      colossus::observe(fleet_, RankHeartbeat{.time = now,
                                              .first_rank = rank,
                                              .end_rank = rank + 1,
                                              .generation = record.heartbeat.generation - 1,
                                              .step = record.heartbeat.step,
                                              .collective = record.heartbeat.progress,
                                              .waits_in = record.heartbeat.waits_in});
    return;
  }
  // One that is lost when all is done is no loss.
  if (record.finished_in == fleet_.generation + 1) return;
  const bool failed = record.code != 0 || record.signal != 0;
  if (failed && fault_at_ < 0) {
    fault_at_ = now;
    fault_after_step_ = fleet_.best_step;
  }
  colossus::observe(fleet_, RankExit{.machine = machine,
                                     .local_rank = local_rank,
                                     .process = record.process,
                                     .code = failed ? record.code : 0,
                                     .signal = failed ? record.signal : 0});
}

// Of the process that is this rank now; null when it is not there.
const RankRecord* Coordinator::record_of(int rank) const {
  const int machine = fleet_.machine_of_slot[at(fleet_.slot_of_rank(rank))];
  if (machine < 0) return nullptr;
  const auto& records = machines_[at(machine)].report.ranks;
  const size_t place = at(rank % fleet_.shape.ranks_per_machine);
  if (place >= records.size() || records[place].process != fleet_.processes.at(rank)) return nullptr;
  return &records[place];
}

// One rank's word is not enough: it may be the one that errs.
void Coordinator::hear_of_wrong_numbers() {
  std::map<int64_t, int> num_accusers;
  for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
    const RankRecord* record = record_of(rank);
    if (!record || record->broken_in != fleet_.generation + 1) continue;
    for (const int64_t wrong : record->wrong_ranks) ++num_accusers[wrong];
  }
  for (const auto& [wrong, count] : num_accusers)
    if (2 * count > fleet_.num_ranks() && wrong >= 0 && wrong < fleet_.num_ranks())
      colossus::observe(fleet_, WrongNumbers{.rank = static_cast<int>(wrong),
                                             .process = fleet_.processes.at(static_cast<int>(wrong))});
}

// A step more than before the fault, with everyone there.
void Coordinator::tell_of_recovery(double now) {
  if (fault_at_ < 0) return;
  for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
    const RankRecord* record = record_of(rank);
    if (!record || record->heartbeat.generation != fleet_.generation + 1 ||
        record->heartbeat.step <= std::max<int64_t>(0, fault_after_step_))
      return;
  }
  options_.note(fmt::format("all {} ranks are past step {}, {:.1f} s after the fault", fleet_.num_ranks(),
                            std::max<int64_t>(0, fault_after_step_), now - fault_at_));
  fault_at_ = -1;
}

void Coordinator::note_faults(const Decision& decision, double now) {
  for (const Action& action : decision.actions) {
    if (std::holds_alternative<Continue>(action.what) || std::holds_alternative<Stop>(action.what)) continue;
    const bool restart = std::holds_alternative<RestartRanks>(action.what);
    if (fault_at_ < 0 && !std::holds_alternative<Grow>(action.what)) {
      fault_at_ = now;
      fault_after_step_ = fleet_.best_step;
    }
    options_.note(action.reason + (restart ? ": started again" : ""));
  }
}

bool Coordinator::end(RunPhase phase, std::string reason) {
  phase_ = phase;
  reason_ = std::move(reason);
  return true;
}

// The error that a worker ended with says more than the decision that followed from it.
std::string Coordinator::last_words() const {
  for (const Seen& machine : machines_)
    for (const RankRecord& record : machine.report.ranks)
      if (record.ended && !record.words.empty()) return record.words;
  return "";
}

// Ranks that live but lost each other, by a network that failed for a moment, or a store that was away: they meet
// again.
bool Coordinator::meet_again_when_broken(double now) {
  if (!fleet_.pending.empty()) return false;  // somebody has to be replaced before
  std::string why;
  for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
    const RankRecord* record = record_of(rank);
    if (!record || record->ended) return false;  // decide() has something to say about this
    if (record->broken_in == fleet_.generation + 1) why = record->words;
  }
  if (why.empty()) {
    broken_since_ = -1;
    return false;
  }
  if (broken_since_ < 0) broken_since_ = now;
  // Long enough to hear of the end of a process, if that is why; of a machine that is gone nothing more is heard.
  constexpr double kSecondsToHear = 2;
  if (now - broken_since_ < kSecondsToHear) return false;
  for (const int machine : fleet_.machine_of_slot)
    if (machine < 0 || machines_[at(machine)].seen_at < broken_since_ + kSecondsToHear / 2) return false;
  broken_since_ = -1;
  constexpr int kMostInARow = 5;
  num_broken_in_a_row_ = fleet_.best_step > broken_at_step_ ? 1 : num_broken_in_a_row_ + 1;
  broken_at_step_ = fleet_.best_step;
  if (num_broken_in_a_row_ > kMostInARow)
    return end(RunPhase::kGivenUp,
               fmt::format("the ranks lost each other {} times without a step in between: {}", kMostInARow, why));
  options_.note("the ranks lost each other, and meet again: " + why);
  ++fleet_.generation;
  fleet_.generation_since = now;
  return true;
}

bool Coordinator::all_finished() const {
  for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
    const RankRecord* record = record_of(rank);
    if (!record || record->finished_in != fleet_.generation + 1) return false;
  }
  return true;
}

// What is in the memory of some ranks can be saved once the others are back.
bool Coordinator::begin_saving(double now) {
  bool together = true;
  for (int rank = 0; rank < fleet_.num_ranks() && together; ++rank) {
    const RankRecord* record = record_of(rank);
    together = record && !record->ended &&
               (fleet_.generation == 0 ||
                (record->heartbeat.generation == fleet_.generation + 1 && record->heartbeat.step >= 0));
  }
  if (!together && now - stop_at_ < options_.policy.hang_after_seconds) return false;
  progress_of_stop_at_ = now;
  return end(RunPhase::kSaving, "");
}

bool Coordinator::watch_saving(double now) {
  int64_t progress = 0;
  bool all_ended = true;
  for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
    const RankRecord* record = record_of(rank);
    progress += record ? record->heartbeat.progress + (record->ended ? 1 : 0) : 0;
    all_ended = all_ended && record && record->ended;
  }
  if (all_ended) {
    if (fleet_.best_step < 0) return end(RunPhase::kSaved, "stopped before the first step");
    for (int rank = 0; rank < fleet_.num_ranks(); ++rank) {
      const RankRecord& record = *record_of(rank);
      if (record.signal == 0 && record.words.empty()) continue;
      const ProcessEnd how{.exit_code = record.code, .signal = record.signal};
      return end(RunPhase::kSaved,
                 fmt::format("stopped, but rank {} could not save: {}; the same command goes on from the newest "
                             "checkpoint",
                             rank, record.words.empty() ? how.to_string() : record.words));
    }
    return end(RunPhase::kSaved, "");
  }
  if (std::exchange(progress_of_stop_, progress) != progress) progress_of_stop_at_ = now;
  if (now - progress_of_stop_at_ < options_.policy.hang_after_seconds) return false;
  return end(RunPhase::kSaved,
             fmt::format("stopped, but not all ranks could save: nothing went on for {:.0f} s; the same command goes "
                         "on from the newest checkpoint",
                         now - progress_of_stop_at_));
}

std::optional<Assignment> Coordinator::decide(const Lease& lease, double now) {
  const auto changed = [&](bool yes) { return yes ? std::optional(assignment(lease, now)) : std::nullopt; };
  if (!lease.valid(now)) return std::nullopt;
  if (phase_ == RunPhase::kSaving) return changed(watch_saving(now));
  if (phase_ != RunPhase::kRunning) return std::nullopt;
  if (all_finished()) return changed(end(RunPhase::kFinished, ""));
  if (stop_at_ >= 0 && begin_saving(now)) return changed(true);
  tell_of_recovery(now);
  hear_of_wrong_numbers();
  const int64_t generation = fleet_.generation;
  const Decision decision = colossus::decide(options_.policy, fleet_, lease, now);
  note_faults(decision, now);
  remember_slots();
  if (const auto* stop = std::get_if<Stop>(&decision.actions.back().what)) {
    const std::string words = last_words();
    return changed(
        end(RunPhase::kGivenUp, fmt::format("{}{}{}{}{}", decision.actions.back().reason, words.empty() ? "" : ": ",
                                            words, stop->advice.empty() ? "" : "; ", stop->advice)));
  }
  return changed(fleet_.generation != generation || meet_again_when_broken(now));
}

Assignment Coordinator::assignment(const Lease& lease, double now) const {
  const MeshConfig mesh = mesh_of(options_.mesh, fleet_.num_ranks());
  Assignment a{.term = lease.term,
               .generation = fleet_.generation,
               .phase = phase_,
               .reason = reason_,
               .shape = fleet_.shape,
               .data = mesh.data,
               .shard = mesh.shard,
               .machine_of_slot = fleet_.machine_of_slot,
               .machines = {},
               .processes = fleet_.processes,
               .restarts = {},
               .replaced = {},
               .num_fruitless = fleet_.num_fruitless,
               .best_step = fleet_.best_step};
  for (size_t i = 0; i < machines_.size(); ++i)
    a.machines.push_back({.name = fleet_.machine_names[i],
                          .incarnation = machines_[i].report.incarnation,
                          .state = fleet_.machines[i].state,
                          .num_faults = fleet_.machines[i].num_faults});
  const double window_begin = now - options_.policy.restart_window_seconds;
  for (const auto& [rank, history] : fleet_.history) {
    for (const double time : history.restarts)
      if (time >= window_begin) a.restarts[rank].push_back(now - time);
    if (history.replaced_at >= window_begin) a.replaced[rank] = now - history.replaced_at;
  }
  return a;
}

std::vector<std::string> Coordinator::machines_out_of_order() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < machines_.size(); ++i)
    if (machines_[i].was_in_run && fleet_.machines[i].state == MachineState::kOutOfOrder)
      names.push_back(fleet_.machine_names[i]);
  return names;
}

}  // namespace colossus
