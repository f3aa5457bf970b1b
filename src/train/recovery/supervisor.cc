#include "train/recovery/supervisor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "train/recovery/waits.h"

namespace colossus {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(20);

// Differs from that of any other process, also of those that had this machine's name before.
std::string unique_name(const std::string& machine) {
  std::string name =
      fmt::format("{}.{}.{}", machine, ::getpid(), std::chrono::system_clock::now().time_since_epoch().count());
  std::ranges::replace(name, ' ', '-');
  return name;
}

// What passes once the store answers again.
bool of_store(const Status& status) { return !status.ok() && status.code() == ErrorCode::kUnavailable; }

}  // namespace

CoordinatorOptions Supervisor::coordinator_options() const {
  return {.policy = options_.policy, .shape = options_.shape, .mesh = options_.mesh, .note = options_.agent.note};
}

// This machine's report. Another one that writes in its place has its name: then this one ends.
Status Supervisor::tell(double now) {
  ++report_.beat;
  report_.ranks = agent_->records();
  const std::string key = report_key(entry_.machine), text = print_report(report_);
  if (!report_text_) {
    ASSIGN_OR_RETURN(report_text_, life_store_->get(key));
  }
  for (int attempt = 0;; ++attempt) {
    ASSIGN_OR_RETURN(const bool written, life_store_->compare_and_set(key, report_text_, text));
    if (written) break;
    ASSIGN_OR_RETURN(const auto found, life_store_->get(key));
    // One that was sent before and whose answer was lost.
    const bool mine = found && parse_report(*found).ok() && parse_report(*found)->incarnation == report_.incarnation;
    if (attempt > 0 || !(mine || !found))
      return invalid(fmt::format("another `colossus train` takes part as machine {}; give each its own --machine",
                                 options_.machine));
    report_text_ = found;
  }
  report_text_ = text;
  told_at_ = now;
  return several_machines() ? agent_->renew_lease(now) : ok_status();
}

Status Supervisor::elect(double now) {
  ASSIGN_OR_RETURN(const auto record, life_store_->get(kLeaderKey));
  ASSIGN_OR_RETURN(const auto write, next_write(options_.election, election_, record, now));
  if (coordinator_ && record && parse_leader_record(*record)->leader != election_.self) {
    note("another machine leads now");
    coordinator_.reset();
  }
  if (!write) return ok_status();
  const double began = monotonic_seconds();
  const auto done = life_store_->compare_and_set(kLeaderKey, write->expected, write->value);
  const WriteOutcome outcome = !done.ok() ? WriteOutcome::kUnknown
                               : *done    ? WriteOutcome::kDone
                                          : WriteOutcome::kRefused;
  on_written(options_.election, election_, *write, outcome, began);
  return done.status();
}

Result<std::optional<MachineReport>> Supervisor::report_of(int machine) {
  ASSIGN_OR_RETURN(const auto text, life_store_->get(report_key(machine)));
  if (!text) return std::optional<MachineReport>();
  ASSIGN_OR_RETURN(auto report, parse_report(*text));
  return std::optional(std::move(report));
}

Result<std::string> Supervisor::name_of(int machine) {
  ASSIGN_OR_RETURN(auto name, life_store_->get(machine_key(machine)));
  return name.value_or(fmt::format("machine-{}", machine));
}

// Of a leader. Refused or unanswered: what is in the store now decides, not what this one believes.
Status Supervisor::write(const Assignment& assignment) {
  const auto written = life_store_->compare_and_set(kAssignmentKey, assignment_text_, print_assignment(assignment));
  if (!written.ok() || !*written) {
    coordinator_.reset();
    return written.status();
  }
  assignment_ = assignment;
  assignment_text_ = print_assignment(assignment);
  return agent_->obey(*assignment_, entry_.machine);
}

Status Supervisor::begin_when_all_are_there(double now) {
  if (forming_since_ < 0) forming_since_ = waiting_said_at_ = now;
  std::vector<std::optional<MachineReport>> reports;
  std::vector<std::string> names;
  int num_there = 0;
  for (int machine = 0; machine < options_.shape.num_machines(); ++machine) {
    ASSIGN_OR_RETURN(auto report, report_of(machine));
    ASSIGN_OR_RETURN(std::string name, name_of(machine));
    num_there += report ? 1 : 0;
    reports.push_back(std::move(report));
    names.push_back(std::move(name));
  }
  const int needed = options_.shape.num_slots();
  if (num_there < needed) {
    if (now - forming_since_ > options_.policy.give_up_seconds)
      return invalid(fmt::format("{} of {} machines came within {:.0f} s", num_there, needed, now - forming_since_));
    constexpr double kSayEvery = 15;
    if (now - waiting_said_at_ > kSayEvery) {
      note(fmt::format("{} of {} machines are there", num_there, needed));
      waiting_said_at_ = now;
    }
    return ok_status();
  }
  coordinator_ = std::make_unique<Coordinator>(coordinator_options(), names, reports, now);
  return write(coordinator_->assignment(election_.lease, now));
}

Status Supervisor::hear(double now) {
  for (int machine = 0; machine < coordinator_->num_machines(); ++machine) {
    ASSIGN_OR_RETURN(const auto report, report_of(machine));
    if (!report) continue;
    const bool known = !assignment_->machines[static_cast<size_t>(machine)].incarnation.empty();
    std::string name = assignment_->machines[static_cast<size_t>(machine)].name;
    if (!known) {
      ASSIGN_OR_RETURN(name, name_of(machine));
    }
    coordinator_->observe(machine, name, *report, now);
  }
  return ok_status();
}

Status Supervisor::lead(double now) {
  if (!election_.lease.valid(now)) return ok_status();
  if (!coordinator_) {
    if (!assignment_) return begin_when_all_are_there(now);
    if (assignment_->phase != RunPhase::kRunning && assignment_->phase != RunPhase::kSaving) return ok_status();
    note(fmt::format("this machine leads from now on, in term {}", election_.lease.term));
    coordinator_ = std::make_unique<Coordinator>(coordinator_options(), *assignment_, now);
  }
  // This process, its machine, or the store stood still: nobody else is silent because of that.
  constexpr double kPause = 1;
  if (led_at_ >= 0 && now - led_at_ > kPause) coordinator_->listen_anew(now);
  led_at_ = now;
  RETURN_IF_ERROR(hear(now));
  const auto next = coordinator_->decide(election_.lease, monotonic_seconds());
  if (auto given_up = coordinator_->machines_out_of_order(); given_up != given_up_) {
    given_up_ = std::move(given_up);
    options_.on_given_up(given_up_);
  }
  if (!next) return ok_status();
  if (const std::string waits = who_waits(machine_store_); !waits.empty()) note(waits);
  return write(*next);
}

// The others have not heard of this machine for so long that its place may be another's. What it has is worth nothing
// to them then; it comes back as one that is ready for work.
void Supervisor::come_back_after_absence(double now) {
  const double patience = options_.policy.dead_after_seconds;
  if (told_at_ > 0 && now - told_at_ > patience / 2) absent_at_ = now;
  // One that lost its place for another reason, a rank that failed on it again and again, waits for a person.
  const bool was_absent = now - absent_at_ < 10 * patience;
  if (!was_absent || !assignment_ || assignment_->slot_of(entry_.machine)) return;
  absent_at_ = -1e300;
  agent_->end_all();
  note("the run goes on without this machine, which was cut off; it is spare now");
  report_.incarnation = unique_name(options_.machine);
}

Status Supervisor::check_same_shape() const {
  const FleetShape &theirs = assignment_->shape, &ours = options_.shape;
  const auto print = [](const FleetShape& shape) {
    return fmt::format("{} machines of {} ranks and {} spares", shape.num_slots(), shape.ranks_per_machine,
                       shape.num_spares);
  };
  if (theirs == ours) return ok_status();
  return invalid(
      fmt::format("the run in this store has {}; this machine was started for {}", print(theirs), print(ours)));
}

Status Supervisor::look_into_store(bool urgent, double now) {
  // Read before telling: a machine that lost its place says in its next report that it has no ranks.
  ASSIGN_OR_RETURN(const auto text, life_store_->get(kAssignmentKey));
  if (text != assignment_text_) {
    if (coordinator_) note("another machine has decided");
    coordinator_.reset();
    assignment_text_ = text;
    assignment_.reset();
    if (text) {
      ASSIGN_OR_RETURN(assignment_, parse_assignment(*text));
      RETURN_IF_ERROR(check_same_shape());
    }
  }
  if (!std::exchange(has_read_, true) && assignment_)  // what was decided before this process came is not for it
    agent_->ignore_up_to(assignment_->term, assignment_->generation);
  if (assignment_) RETURN_IF_ERROR(agent_->obey(*assignment_, entry_.machine));
  come_back_after_absence(now);
  if (urgent || now - told_at_ >= options_.report_seconds) RETURN_IF_ERROR(tell(now));
  RETURN_IF_ERROR(elect(monotonic_seconds()));
  return lead(monotonic_seconds());
}

std::optional<Status> Supervisor::outcome(double now) {
  if (!assignment_ || assignment_->phase == RunPhase::kRunning || assignment_->phase == RunPhase::kSaving)
    return std::nullopt;
  if (over_since_ < 0) over_since_ = now;
  static_cast<void>(leave_run(run_store_, entry_.life));  // another machine does it, if this one cannot
  if (assignment_->phase == RunPhase::kFinished) {
    // They have nothing to do but to say so.
    if (!agent_->all_ended() && now - over_since_ < options_.policy.hang_after_seconds) return std::nullopt;
    return ok_status();
  }
  return assignment_->phase == RunPhase::kSaved ? interrupted(assignment_->reason) : unavailable(assignment_->reason);
}

Status Supervisor::watch(const std::atomic<bool>& stop_requested) {
  bool urgent = false;
  while (true) {
    const double now = monotonic_seconds();
    urgent = agent_->look() || urgent;
    if (stop_requested.load() && !std::exchange(report_.stop_requested, true)) {
      urgent = true;
      stop_since_ = now;
    }
    if (urgent || now - asked_at_ >= options_.store_seconds) {
      const Status looked = look_into_store(urgent, now);
      if (!looked.ok() && !of_store(looked)) return looked;
      asked_at_ = monotonic_seconds();
      if (looked.ok()) urgent = false;
    }
    if (auto ended = outcome(now)) return *ended;
    if (stop_requested.load() && !assignment_) return interrupted("stopped before the machines met");
    // Nobody can agree on anything without a store.
    const double silent = now - std::max(told_at_, stop_since_);
    if (stop_requested.load() && silent > options_.policy.hang_after_seconds)
      return interrupted(
          "stopped, but the store of the run did not answer, so that the ranks could not agree on a step "
          "to save; the same command goes on from the newest checkpoint");
    if (told_at_ > 0 && now - told_at_ > options_.policy.give_up_seconds)
      return unavailable(fmt::format("the store of the run has not answered for {:.0f} s", now - told_at_));
    std::this_thread::sleep_for(kLookEvery);
  }
}

Status Supervisor::run(const std::atomic<bool>& stop_requested) {
  RETURN_IF_ERROR(check(options_.shape));
  const EntryOptions entry{.machine = options_.machine,
                           .launch = options_.launch,
                           .num_machines = options_.shape.num_machines(),
                           .preferred = options_.preferred_machine,
                           .lease_seconds = options_.election.lease_seconds,
                           .patience_seconds = std::max(60.0, 2 * options_.policy.hang_after_seconds)};
  ASSIGN_OR_RETURN(entry_, enter_run(run_store_, entry, stop_requested, [this](const auto& text) { note(text); }));
  life_store_ = part_of_store(run_store_, entry_.life.prefix());
  report_.incarnation = election_.self = unique_name(options_.machine);
  AgentOptions agent = options_.agent;
  agent.environment.emplace_back(kLifeVariable, entry_.life.prefix());
  agent_ = std::make_unique<Agent>(std::move(agent), machine_store_, options_.shape.ranks_per_machine);
  const Status status = watch(stop_requested);
  agent_->end_all();  // before the caller removes what they write to
  return status;
}

}  // namespace colossus
