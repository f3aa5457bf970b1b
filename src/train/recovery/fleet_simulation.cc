#include "train/recovery/fleet_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <set>
#include <utility>
#include <vector>

namespace colossus {
namespace {

constexpr double kDaySeconds = 86400;
constexpr double kNever = std::numeric_limits<double>::infinity();

class Simulation {
 public:
  explicit Simulation(const FleetSimulationOptions& options)
      : options_(options),
        end_(options.days * kDaySeconds),
        fleet_(make_fleet(options.shape, 0)),
        pace_(options_.kinds, options.microbatches),
        draws_(options_.causes, options_.kinds, options.seed, options.run) {
    outcome_.causes.resize(options_.causes.size());
    outcome_.kinds.resize(options_.kinds.size());
    in_run_.resize(options_.kinds.size());
    for (const PlannedOutage& outage : options_.outages) next_outage_.push_back(outage.every_days * kDaySeconds);
    for (size_t kind = 0; kind < options_.kinds.size(); ++kind) {
      if (options_.kinds[kind].arrives_day == 0) num_arrived_ = kind + 1;
    }
    draws_.set_arrived(num_arrived_);
    training_from_ = options_.restart_seconds;
    roster_changed();
    begin_phase();
    next_fault_ = now_ + draws_.seconds_to_next();
  }

  FleetOutcome run() {
    while (now_ < end_ && !done()) {
      const double repair = repairs_.empty() ? kNever : repairs_.top().first;
      advance(std::min({end_, next_fault_, repair, next_arrival(), next_outage(), next_look(), when_done(),
                        now_ < outage_until_ ? outage_until_ : kNever}));
      if (fleet_.stopped.empty()) send_heartbeats();
      if (now_ >= next_fault_) {
        inject_fault();
        next_fault_ = now_ + draws_.seconds_to_next();
      }
      while (!repairs_.empty() && repairs_.top().first <= now_) end_repair();
      if (now_ >= next_arrival()) arrive();
      if (now_ >= next_outage()) begin_outage();
      if (!fleet_.stopped.empty()) {
        if (now_ >= stopped_at_ + options_.person_seconds) resume();
        continue;
      }
      if (now_ < outage_until_) continue;
      if (std::exchange(outage_until_, 0) > 0) start_all();
      carry_out(decide(options_.policy, fleet_, {.term = 1, .valid_until = kNever}, now_));
    }
    go_back();
    end_phase();
    for (double* part :
         {&outcome_.useful, &outcome_.redone, &outcome_.detecting, &outcome_.waiting, &outcome_.starting,
          &outcome_.checkpoints, &outcome_.maintenance, &outcome_.slow, &outcome_.missing, &outcome_.stopped}) {
      *part /= now_;
    }
    outcome_.work_days /= kDaySeconds;
    outcome_.days = now_ / kDaySeconds;
    return outcome_;
  }

 private:
  int num_machines() const { return static_cast<int>(fleet_.machines.size()); }

  bool broken() const {
    return !silent_.empty() || !lost_.empty() || !fleet_.vacant.empty() || !fleet_.pending.empty();
  }

  // When the next decision can differ though nothing happens until then.
  double next_look() const {
    if (!fleet_.stopped.empty()) return stopped_at_ + options_.person_seconds;
    if (broken()) {
      // What the policy waits for; where that is something else, not long after it.
      constexpr double kTick = 1e-3, kSoonSeconds = 1, kLaterSeconds = 15, kMuchLaterSeconds = 600;
      const RecoveryPolicy& policy = options_.policy;
      double look = now_ + (now_ - broken_since_ < kSoonSeconds ? kSoonSeconds
                            : fleet_.short_since >= 0           ? kMuchLaterSeconds
                                                                : kLaterSeconds);
      for (const double due : {last_silence_ + policy.dead_after_seconds, last_hang_ + policy.hang_after_seconds,
                               fleet_.short_since + policy.give_up_seconds}) {
        if (due + kTick > now_) look = std::min(look, due + kTick);
      }
      for (const auto& [rank, restart] : fleet_.pending) {
        if (restart.due > now_) look = std::min(look, restart.due);
      }
      return look;
    }
    double look = now_ < training_from_ ? training_from_ : kNever;
    if (fleet_.num_blocks < fleet_.shape.num_blocks() &&
        static_cast<int>(fleet_.spares.size()) >= fleet_.shape.machines_per_block()) {
      look = std::min(look, now_ + std::max(1.0, options_.policy.grow_after_seconds / 2));
    }
    if (!slow_.empty() && !fleet_.spares.empty()) look = std::min(look, now_ + options_.step_seconds);
    return look;
  }

  double next_arrival() const {
    return num_arrived_ < options_.kinds.size() ? options_.kinds[num_arrived_].arrives_day * kDaySeconds : kNever;
  }

  double next_outage() const { return next_outage_.empty() ? kNever : *std::ranges::min_element(next_outage_); }

  bool trains() const { return fleet_.stopped.empty() && now_ >= outage_until_ && !broken() && now_ >= training_from_; }
  // What training does, over what the whole run would without slow machines.
  double share() { return std::min(1.0, with_fixed_share(pace_.rate(options_.shape.data_ranks)) / whole_rate_); }
  // Only the microbatches' part of a step follows the ranks.
  double with_fixed_share(double rate) const {
    return options_.fixed_share == 0 ? rate : 1 / (options_.fixed_share + (1 - options_.fixed_share) / rate);
  }
  double now_whole() const { return with_fixed_share(pace_.whole_rate(now_ / kDaySeconds, options_.shape.data_ranks)); }
  double pace() const { return slow_.empty() ? 1 : 1 / static_cast<double>(options_.slow_ratio); }
  double cycle() const { return options_.checkpoint_every_seconds + options_.checkpoint_seconds; }

  // All is trained, and no part of it is lost.
  bool done() const {
    constexpr double kRounding = 1e-3;  // seconds
    return !loses_ && outcome_.work_days >= options_.work_days * kDaySeconds - kRounding;
  }
  double when_done() {
    if (options_.work_days == kNever || !trains()) return kNever;
    const double rate = share() * pace() * whole_rate_ * options_.checkpoint_every_seconds / cycle();
    return now_ + std::max(0.0, options_.work_days * kDaySeconds - outcome_.work_days) / rate;
  }

  void begin_phase() {
    outcome_.phases.push_back({now_ / kDaySeconds, 0, fleet_.shape.data_ranks, whole_rate_});
    useful_before_phase_ = outcome_.useful;
    work_before_phase_ = outcome_.work_days;
  }
  void end_phase() {
    FleetPhase& phase = outcome_.phases.back();
    phase.days = now_ / kDaySeconds - phase.from_day;
    phase.work_days = (outcome_.work_days - work_before_phase_) / kDaySeconds;
    if (phase.days > 0) phase.useful = (outcome_.useful - useful_before_phase_) / (phase.days * kDaySeconds);
  }

  void advance(double to) {
    const double passed = to - now_;
    const bool training = trains();
    if (!fleet_.stopped.empty()) {
      outcome_.stopped += passed;
    } else if (now_ < outage_until_) {
      outcome_.maintenance += passed;
    } else if (broken()) {
      (fleet_.short_since >= 0 ? outcome_.waiting : outcome_.detecting) += passed;
    } else if (!training) {
      outcome_.starting += passed;
    } else {
      const double share = this->share(), pace = this->pace(), cycle = this->cycle();
      const double rate = share * pace * options_.checkpoint_every_seconds / cycle;
      outcome_.missing += passed * (1 - share);
      outcome_.slow += passed * share * (1 - pace);
      outcome_.checkpoints += passed * share * pace * options_.checkpoint_seconds / cycle;
      outcome_.useful += passed * rate;
      outcome_.work_days += passed * rate * whole_rate_;
      const double last_checkpoint = training_from_ + std::floor((to - training_from_) / cycle) * cycle;
      at_risk_ = last_checkpoint > now_ ? (to - last_checkpoint) * rate : at_risk_ + passed * rate;
      at_risk_in_step_ = std::min(at_risk_, std::fmod(to - training_from_, options_.step_seconds) * rate);
    }
    for (size_t kind = 0; kind < num_arrived_; ++kind) {
      const double busy = training ? in_run_[kind] : 0;
      outcome_.kinds[kind].busy_machine_days += busy * passed / kDaySeconds;
      outcome_.kinds[kind].idle_machine_days += (options_.kinds[kind].machines - busy) * passed / kDaySeconds;
    }
    now_ = to;
  }

  // Who is in the run has changed as a whole.
  void roster_changed() {
    pace_.rebuild(fleet_);
    whole_rate_ = now_whole();
    std::ranges::fill(in_run_, 0);
    if (in_run_.size() == 1) {
      in_run_[0] = fleet_.num_slots();
      return;
    }
    for (const int machine : fleet_.machine_of_slot) {
      if (machine >= 0) ++in_run_[static_cast<size_t>(pace_.kind_of(machine))];
    }
    // Whoever takes the place is counted instead of whoever was there.
    for (const auto& [slot, vacancy] : fleet_.vacant) ++in_run_[static_cast<size_t>(pace_.kind_of(vacancy.machine))];
  }

  void replaced(int slot, int machine, int spare) {
    pace_.replaced(fleet_, slot);
    --in_run_[static_cast<size_t>(pace_.kind_of(machine))];
    ++in_run_[static_cast<size_t>(pace_.kind_of(spare))];
  }

  int rank_on(int machine, int local_rank) const {
    return fleet_.machines[static_cast<size_t>(machine)].slot * options_.shape.ranks_per_machine + local_rank;
  }

  const Machine& machine(int id) const { return fleet_.machines[static_cast<size_t>(id)]; }

  void inject_fault() {
    const size_t index = draws_.cause();
    const FaultCause& cause = draws_.causes()[index];
    const bool interrupts =
        fleet_.stopped.empty() && !broken() && now_ >= training_from_ && cause.kind != FaultKind::kSlow;
    bool felt = false;
    const double repair = draws_.repair_seconds(cause);  // one for all that hang on one thing
    for (const int id : draws_.machines(cause)) felt |= hit(cause, id, repair);
    if (!felt) return;
    ++outcome_.num_faults;
    ++outcome_.causes[index].faults;
    if (interrupts) ++outcome_.causes[index].interruptions;
  }

  // A spare that is down does not answer when it is wanted: it is asked for no more until it is back. False: it was
  // down.
  bool darken(int id) {
    fleet_.spares.erase({machine(id).num_faults, id});
    return dark_spares_.insert(id).second;
  }

  // Whether the run feels it.
  bool hit(const FaultCause& cause, int id, double repair) {
    if (machine(id).state != MachineState::kInRun) {
      if (machine(id).state == MachineState::kSpare && cause.kind == FaultKind::kMachine && darken(id)) {
        schedule_return(id, repair);
      }
      return false;
    }
    if (silent_.contains(id) || !fleet_.stopped.empty()) return false;
    if (cause.kind == FaultKind::kSlow) {
      slow_.emplace(id, &cause);
      return true;
    }
    if (!broken()) broken_since_ = now_;
    loses_ = true;
    lost_slots_.insert(machine(id).slot);
    if (cause.kind == FaultKind::kMachine) {
      silent_.insert(id);
      last_silence_ = now_;
      schedule_return(id, repair);
      return true;
    }
    const int local_rank = draws_.below(options_.shape.ranks_per_machine);
    const int64_t process = fleet_.processes.at(rank_on(id, local_rank));
    const bool hangs = cause.kind == FaultKind::kHang;
    if (hangs) {
      last_hang_ = now_;
    } else {
      observe(fleet_, RankExit{.machine = id, .local_rank = local_rank, .process = process, .signal = 9});
    }
    lost_[{id, local_rank}] = {process, hangs};
    return true;
  }

  // What was done since the last checkpoint, or of the step under way: useful until the run goes back to it.
  void go_back() {
    if (!std::exchange(loses_, false)) return;
    const bool from_peers = options_.peer_copies && fleet_.stopped.empty() && !neighbours_lost();
    const double lost = from_peers ? at_risk_in_step_ : at_risk_;
    outcome_.useful -= lost;
    outcome_.work_days -= lost * whole_rate_;
    outcome_.redone += lost;
    at_risk_ -= lost;
    at_risk_in_step_ = 0;
    loads_checkpoint_ = !from_peers;
    if (loads_checkpoint_) ++outcome_.num_checkpoint_loads;
    lost_slots_.clear();
  }

  // A machine's state is also in the memory of the next.
  bool neighbours_lost() const {
    const int last = fleet_.num_slots() - 1;
    return std::ranges::any_of(lost_slots_,
                               [&](int slot) { return lost_slots_.contains(slot == last ? 0 : slot + 1); });
  }

  void schedule_return(int machine, double seconds) {
    if (repairing_.insert(machine).second) repairs_.emplace(now_ + seconds, machine);
  }

  void end_repair() {
    const int id = repairs_.top().second;
    repairs_.pop();
    repairing_.erase(id);
    dark_spares_.erase(id);
    silent_.erase(id);
    observe(fleet_, MachineReady{.time = now_, .machine = id});
  }

  // The next kinds have been delivered: they are spares, and the shape is larger.
  void arrive() {
    end_phase();
    const double day = options_.kinds[num_arrived_].arrives_day;
    while (num_arrived_ < options_.kinds.size() && options_.kinds[num_arrived_].arrives_day <= day) {
      const MachineKind& kind = options_.kinds[num_arrived_++];
      const int first = num_machines();
      fleet_.machines.resize(static_cast<size_t>(first + kind.machines));
      fleet_.machine_seen_at.resize(num_machines(), now_);
      for (int id = first; id < num_machines(); ++id) observe(fleet_, MachineReady{.time = now_, .machine = id});
      fleet_.shape.data_ranks += kind.data_ranks;
      fleet_.shape.num_spares +=
          kind.machines - kind.data_ranks * fleet_.shape.ranks_per_data_rank / fleet_.shape.ranks_per_machine;
    }
    draws_.set_arrived(num_arrived_);
    whole_rate_ = now_whole();
    begin_phase();
    next_fault_ = now_ + draws_.seconds_to_next();
  }

  void begin_outage() {
    const auto next = std::ranges::min_element(next_outage_);
    const PlannedOutage& outage = options_.outages[static_cast<size_t>(next - next_outage_.begin())];
    *next += outage.every_days * kDaySeconds;
    const double seconds = 3600 * outage.hours;
    if (!broken()) at_risk_ = at_risk_in_step_ = 0;  // a checkpoint before it
    if (outage.share == 1) {
      outage_until_ = now_ + seconds;
      training_from_ = std::max(training_from_, outage_until_);
      return;
    }
    const int count = static_cast<int>(outage.share * num_machines());
    for (int i = 0; i < count; ++i, ++outage_cursor_) {
      const int id = outage_cursor_ % num_machines();
      if (machine(id).state == MachineState::kOutOfOrder || silent_.contains(id) || dark_spares_.contains(id)) continue;
      if (machine(id).state == MachineState::kInRun) {
        if (!broken()) broken_since_ = now_;
        silent_.insert(id);
        last_silence_ = now_;
      } else {
        darken(id);
      }
      schedule_return(id, seconds);
    }
  }

  // Somebody has looked, and started everything anew.
  void resume() {
    loses_ = true;
    go_back();
    loads_checkpoint_ = false;
    fleet_.stopped.clear();
    fleet_.num_fruitless = 0;
    fleet_.short_since = -1;
    fleet_.history.clear();
    start_all();
    broken_since_ = now_;
  }

  // From a checkpoint, all processes anew, by those who stopped them all.
  void start_all() {
    fleet_.pending.clear();
    fleet_.faults.clear();
    fleet_.slow.clear();
    lost_.clear();
    ++fleet_.generation;
    fleet_.generation_since = now_;
    fleet_.ranks.assign(0, fleet_.num_ranks(), {.seen_at = now_, .progress_at = now_});
    fleet_.processes.assign(0, fleet_.num_ranks(), fleet_.generation);
    take_office(fleet_, now_);
    CHECK(fence_.accepts(1, fleet_.generation), "generations grow");
    training_from_ = now_ + options_.restart_seconds + options_.checkpoint_load_seconds;
  }

  // Machines that are out of order and spares that are down may answer: nobody asks them.
  void send_heartbeats() {
    for_ranges_without(silent_, num_machines(), [&](int begin, int end) {
      observe(fleet_, MachineHeartbeat{.time = now_, .first_machine = begin, .end_machine = end});
    });
    std::set<int> unheard;
    bool hangs = false;
    for (const auto& [place, lost] : lost_) {
      unheard.insert(rank_on(place.first, place.second));
      hangs |= lost.hangs;
    }
    for (const int machine : silent_) {
      for (int i = 0; i < options_.shape.ranks_per_machine; ++i) unheard.insert(rank_on(machine, i));
    }
    const bool training = now_ > training_from_;
    const int64_t step = training ? static_cast<int64_t>(outcome_.work_days / options_.step_seconds) : -1;
    RankHeartbeat heartbeat{
        .time = now_, .generation = fleet_.generation, .step = step, .collective = training ? 2 * step : -1};
    for (const auto& [place, lost] : lost_) {
      if (!lost.hangs) continue;
      heartbeat.first_rank = rank_on(place.first, place.second);
      heartbeat.end_rank = heartbeat.first_rank + 1;
      observe(fleet_, heartbeat);
    }
    if (hangs) {
      ++heartbeat.collective;
      heartbeat.waits_in = "all_to_all";
    }
    for_ranges_without(unheard, fleet_.num_ranks(), [&](int begin, int end) {
      heartbeat.first_rank = begin;
      heartbeat.end_rank = end;
      observe(fleet_, heartbeat);
    });
    if (!slow_.empty() && training && !broken()) {
      StepTimes times{.generation = fleet_.generation, .step = ++num_timed_steps_};
      for (const auto& [machine, cause] : slow_) times.slow.push_back({rank_on(machine, 0), options_.slow_ratio});
      observe(fleet_, times, options_.policy.straggler_steps);
    }
  }

  static void for_ranges_without(const std::set<int>& without, int end, const std::function<void(int, int)>& see) {
    int begin = 0;
    for (const int index : without) {
      if (begin < index) see(begin, index);
      begin = index + 1;
    }
    if (begin < end) see(begin, end);
  }

  void carry_out(const Decision& decision) {
    if (!fleet_.stopped.empty()) {
      ++outcome_.num_stops;
      outcome_.stop_reason = fleet_.stopped;
      stopped_at_ = now_;
      return;
    }
    if (!fence_.accepts(decision.term, decision.generation)) return;
    ++outcome_.num_decisions;
    bool joins = false, reshapes = false, grows = false;
    for (const Action& action : decision.actions) {
      if (const auto* restart = std::get_if<RestartRanks>(&action.what)) {
        outcome_.num_restarts += restart->end_rank - restart->first_rank;
      } else if (std::holds_alternative<ReplaceMachine>(action.what)) {
        ++outcome_.num_replacements;
        joins = true;
      } else if (std::holds_alternative<Shrink>(action.what)) {
        ++outcome_.num_shrinks;
        reshapes = true;
      } else if (std::holds_alternative<Grow>(action.what)) {
        ++outcome_.num_grows;
        joins = reshapes = grows = true;
      } else if (const auto* drain = std::get_if<Drain>(&action.what)) {
        ++outcome_.num_drains;
        joins = true;
        if (const auto slow = slow_.find(drain->machine); slow != slow_.end()) {
          ++outcome_.causes[static_cast<size_t>(slow->second - draws_.causes().data())].interruptions;
        }
      }
    }
    go_back();
    training_from_ = now_ + options_.restart_seconds + (joins ? options_.peer_load_seconds : 0) +
                     (std::exchange(loads_checkpoint_, false) ? options_.checkpoint_load_seconds : 0);
    FleetPhase& phase = outcome_.phases.back();
    if (grows && outcome_.phases.size() > 1 && phase.joined_days == 0)
      phase.joined_days = training_from_ / kDaySeconds - phase.from_day;
    if (reshapes) {
      roster_changed();
    } else {
      for (const Action& action : decision.actions) {
        if (const auto* replace = std::get_if<ReplaceMachine>(&action.what)) {
          replaced(replace->slot, replace->machine, replace->spare);
        } else if (const auto* drain = std::get_if<Drain>(&action.what)) {
          replaced(drain->slot, drain->machine, drain->spare);
        }
      }
    }
    forget_those_that_left();
  }

  void forget_those_that_left() {
    const auto left = [&](int id) { return machine(id).state != MachineState::kInRun; };
    std::erase_if(slow_, [&](const auto& entry) {
      const auto& [id, cause] = entry;
      if (!left(id)) return false;
      if (machine(id).state == MachineState::kOutOfOrder) schedule_return(id, draws_.repair_seconds(*cause));
      return true;
    });
    for (auto id = silent_.begin(); id != silent_.end();) {
      if (!left(*id)) {
        ++id;
        continue;
      }
      // Set free with its block before it was missed.
      if (machine(*id).state == MachineState::kSpare) darken(*id);
      id = silent_.erase(id);
    }
    // Started anew, or no longer asked for. Machines lost with a process that went too often are looked at.
    std::erase_if(lost_, [&](const auto& entry) {
      const auto& [id, local_rank] = entry.first;
      if (left(id)) {
        if (machine(id).state == MachineState::kOutOfOrder) schedule_return(id, kDaySeconds);
        return true;
      }
      return fleet_.processes.at(rank_on(id, local_rank)) != entry.second.process;
    });
  }

  struct LostProcess {
    int64_t process = 0;
    bool hangs = false;  // else it ended
  };

  FleetSimulationOptions options_;
  const double end_;
  Fleet fleet_;
  FleetPace pace_;
  FaultDraws draws_;
  Fence fence_;
  FleetOutcome outcome_;
  double now_ = 0;
  double training_from_ = 0;
  double broken_since_ = 0, last_silence_ = -kNever, last_hang_ = -kNever;
  double stopped_at_ = 0;
  double next_fault_ = 0;
  size_t num_arrived_ = 0;  // kinds
  std::vector<double> next_outage_;
  double outage_until_ = 0;
  int outage_cursor_ = 0;
  double whole_rate_ = 1;       // of a run in which nothing is missing, over that of day 0 at speed 1
  std::vector<int> in_run_;     // machines, by kind
  double at_risk_ = 0;          // useful since the last checkpoint
  double at_risk_in_step_ = 0;  // useful of the step under way
  bool loses_ = false;          // one or the other
  bool loads_checkpoint_ = false;
  std::set<int> lost_slots_;  // since the run stood still
  int64_t num_timed_steps_ = 0;
  double useful_before_phase_ = 0, work_before_phase_ = 0;
  // What is so, and may not be known yet.
  std::set<int> silent_;  // machines of the run
  std::set<int> dark_spares_;
  std::map<int, const FaultCause*> slow_;
  std::map<std::pair<int, int>, LostProcess> lost_;  // by machine and rank on it
  std::set<int> repairing_;
  std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>, std::greater<>> repairs_;
};

Status check_options(const FleetSimulationOptions& options) {
  RETURN_IF_ERROR(check(options.shape));
  if (!(options.days > 0) || !(options.step_seconds > 0) || !(options.checkpoint_every_seconds > 0) ||
      !(options.checkpoint_seconds >= 0) || !(options.restart_seconds > 0) || !(options.peer_load_seconds >= 0) ||
      !(options.checkpoint_load_seconds >= 0) || !(options.slow_ratio >= 1) || options.microbatches < 0 ||
      !(options.person_seconds > 0) || !(options.work_days > 0) || !(options.fixed_share >= 0) ||
      !(options.fixed_share < 1)) {
    return invalid("a simulation needs times above 0, a slow machine's ratio of at least 1, and a share below 1");
  }
  for (const FaultCause& cause : options.causes) RETURN_IF_ERROR(check(cause));
  for (const PlannedOutage& outage : options.outages) {
    if (!(outage.every_days > 0) || !(outage.hours > 0) || !(outage.share > 0) || !(outage.share <= 1) ||
        outage.hours >= 24 * outage.every_days) {
      return invalid("an outage needs a time between two that is longer than it is, and a share in (0, 1]");
    }
  }
  double last = 0;
  int64_t machines = 0, data_ranks = 0, ranks = 0;
  for (const MachineKind& kind : options.kinds) {
    if (!(kind.arrives_day >= last) || kind.machines < 1 || !(kind.speed > 0) || !(kind.fault_scale >= 0) ||
        kind.data_ranks < 0) {
      return invalid("kinds of machines need a number, a speed above 0, and come in the order of their days");
    }
    last = kind.arrives_day;
    ranks += int64_t{kind.machines} * options.shape.ranks_per_machine;
    if (kind.arrives_day > 0 && kind.data_ranks % options.shape.data_ranks_per_block() != 0) {
      return invalid(fmt::format("{} data ranks of a later kind do not fill whole machines", kind.data_ranks));
    }
    if (kind.arrives_day == 0) {
      machines += kind.machines;
      data_ranks += kind.data_ranks;
    }
  }
  if (machines != options.shape.num_machines() || data_ranks != options.shape.data_ranks) {
    return invalid(fmt::format("kinds of day 0 have {} machines and {} data ranks; the shape has {} and {}", machines,
                               data_ranks, options.shape.num_machines(), options.shape.data_ranks));
  }
  return ranks < (int64_t{1} << 30) ? ok_status() : invalid("kinds have too many machines");
}

}  // namespace

Result<FleetOutcome> simulate_fleet(const FleetSimulationOptions& options) {
  FleetSimulationOptions complete = options;
  RETURN_IF_ERROR(check(options.shape));
  if (complete.kinds.empty()) {
    complete.kinds = {{.machines = options.shape.num_machines(), .data_ranks = options.shape.data_ranks}};
  }
  RETURN_IF_ERROR(check_options(complete));
  return Simulation(complete).run();
}

}  // namespace colossus
