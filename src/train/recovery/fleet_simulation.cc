#include "train/recovery/fleet_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <set>
#include <utility>

#include "base/rng.h"

namespace colossus {
namespace {

constexpr double kDaySeconds = 86400;
constexpr double kNever = std::numeric_limits<double>::infinity();

class Simulation {
 public:
  explicit Simulation(const FleetSimulationOptions& options)
      : options_(options), end_(options.days * kDaySeconds), fleet_(make_fleet(options.shape, 0)) {
    std::ranges::sort(options_.repair_days);
    training_from_ = options_.restart_seconds;
    next_fault_ = draw_fault_time();
  }

  FleetOutcome run() {
    while (now_ < end_) {
      const double repair = repairs_.empty() ? kNever : repairs_.top().first;
      advance(std::min({end_, next_fault_, repair, next_look()}));
      if (!fleet_.stopped.empty()) {
        advance(end_);
        break;
      }
      send_heartbeats();
      if (now_ >= next_fault_) {
        inject_fault();
        next_fault_ = draw_fault_time();
      }
      while (!repairs_.empty() && repairs_.top().first <= now_) {
        observe(fleet_, MachineReady{.time = now_, .machine = repairs_.top().second});
        repairing_.erase(repairs_.top().second);
        repairs_.pop();
      }
      carry_out(decide(options_.policy, fleet_, {.term = 1, .valid_until = kNever}, now_));
    }
    go_back();
    outcome_.stop_reason = fleet_.stopped;
    for (double* part : {&outcome_.useful, &outcome_.redone, &outcome_.recovering, &outcome_.checkpoints,
                         &outcome_.slow, &outcome_.missing, &outcome_.stopped}) {
      *part /= end_;
    }
    return outcome_;
  }

 private:
  double draw() {
    const RngKey key{.seed = options_.seed, .purpose = RngPurpose::kTest};
    return (static_cast<double>(random_bits(key, num_drawn_++)) + 0.5) / 4294967296.0;
  }

  double draw_fault_time() {
    const double per_second = options_.faults_per_machine_day * fleet_.num_slots() / kDaySeconds;
    return per_second > 0 ? now_ - std::log(draw()) / per_second : kNever;
  }

  // The table as quantiles, and between two of them evenly in the logarithm.
  double draw_repair_seconds() {
    const std::vector<double>& days = options_.repair_days;
    const double at = draw() * static_cast<double>(days.size() - 1);
    const size_t below = std::min(static_cast<size_t>(at), days.size() - 1);
    const size_t above = std::min(below + 1, days.size() - 1);
    constexpr double kShortest = 1e-4;
    const double low = std::log(std::max(kShortest, days[below])), high = std::log(std::max(kShortest, days[above]));
    return kDaySeconds * std::exp(low + (high - low) * (at - static_cast<double>(below)));
  }

  bool broken() const {
    return !silent_.empty() || !lost_.empty() || !fleet_.vacant.empty() || !fleet_.pending.empty();
  }

  // When the next decision can differ though nothing happens until then.
  double next_look() const {
    if (broken()) {
      constexpr double kSoonSeconds = 1, kLaterSeconds = 15;
      return now_ + (now_ - broken_since_ < 2 * options_.policy.hang_after_seconds ? kSoonSeconds : kLaterSeconds);
    }
    double look = now_ < training_from_ ? training_from_ : kNever;
    if (fleet_.num_blocks < options_.shape.num_blocks() &&
        static_cast<int>(fleet_.spares.size()) >= options_.shape.machines_per_block()) {
      look = std::min(look, now_ + std::max(1.0, options_.policy.grow_after_seconds / 2));
    }
    if (!slow_.empty()) look = std::min(look, now_ + options_.step_seconds);
    return look;
  }

  void advance(double to) {
    if (!fleet_.stopped.empty()) {
      outcome_.stopped += to - now_;
    } else if (broken() || now_ < training_from_) {
      outcome_.recovering += to - now_;
    } else {
      const double share = static_cast<double>(fleet_.data_ranks()) / options_.shape.data_ranks;
      const double pace = slow_.empty() ? 1 : 1 / static_cast<double>(options_.slow_ratio);
      const double cycle = options_.checkpoint_every_seconds + options_.checkpoint_seconds;
      const double rate = share * pace * options_.checkpoint_every_seconds / cycle;
      outcome_.missing += (to - now_) * (1 - share);
      outcome_.slow += (to - now_) * share * (1 - pace);
      outcome_.checkpoints += (to - now_) * share * pace * options_.checkpoint_seconds / cycle;
      outcome_.useful += (to - now_) * rate;
      const double last_checkpoint = training_from_ + std::floor((to - training_from_) / cycle) * cycle;
      at_risk_ = last_checkpoint > now_ ? (to - last_checkpoint) * rate : at_risk_ + (to - now_) * rate;
    }
    now_ = to;
  }

  int rank_on(int machine, int local_rank) const {
    return fleet_.machines[static_cast<size_t>(machine)].slot * options_.shape.ranks_per_machine + local_rank;
  }

  void inject_fault() {
    const int slot = std::min(static_cast<int>(draw() * fleet_.num_slots()), fleet_.num_slots() - 1);
    const int local_rank =
        std::min(static_cast<int>(draw() * options_.shape.ranks_per_machine), options_.shape.ranks_per_machine - 1);
    const double kind = draw();
    const int machine = fleet_.machine_of_slot[static_cast<size_t>(slot)];
    if (machine < 0 || silent_.contains(machine)) return;
    ++outcome_.num_faults;
    const int rank = rank_on(machine, local_rank);
    const int64_t process = fleet_.processes.at(rank);
    const double exits = options_.share_of_exits, hangs = exits + options_.share_of_hangs;
    if (kind >= hangs && kind < hangs + options_.share_of_slow) {
      slow_.insert(machine);
      return;
    }
    if (!broken()) broken_since_ = now_;
    if (kind < exits) {
      observe(fleet_, RankExit{.machine = machine, .local_rank = local_rank, .process = process, .signal = 9});
      lost_[{machine, local_rank}] = {process, false};
    } else if (kind < hangs) {
      lost_[{machine, local_rank}] = {process, true};
    } else {
      silent_.insert(machine);
      schedule_repair(machine);
    }
    loses_ = true;
  }

  // What was done since the last checkpoint: useful until the run goes back to it.
  void go_back() {
    if (std::exchange(loses_, false)) {
      outcome_.useful -= at_risk_;
      outcome_.redone += at_risk_;
    }
    at_risk_ = 0;
  }

  void schedule_repair(int machine) {
    if (repairing_.insert(machine).second) repairs_.emplace(now_ + draw_repair_seconds(), machine);
  }

  // Machines that are out of order may answer: nobody asks them.
  void send_heartbeats() {
    const int num_machines = static_cast<int>(fleet_.machines.size());
    for_ranges_without(silent_, num_machines, [&](int begin, int end) {
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
    const bool trains = now_ > training_from_;
    const int64_t step = trains ? static_cast<int64_t>(outcome_.useful / options_.step_seconds) : -1;
    RankHeartbeat heartbeat{
        .time = now_, .generation = fleet_.generation, .step = step, .collective = trains ? 2 * step : -1};
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
    if (!slow_.empty() && trains && !broken()) {
      StepTimes times{.generation = fleet_.generation, .step = ++num_timed_steps_};
      for (const int machine : slow_) times.slow.push_back({rank_on(machine, 0), options_.slow_ratio});
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
    if (!fence_.accepts(decision.term, decision.generation)) return;
    ++outcome_.num_decisions;
    for (const Action& action : decision.actions) {
      if (const auto* restart = std::get_if<RestartRanks>(&action.what)) {
        outcome_.num_restarts += restart->end_rank - restart->first_rank;
      } else if (std::holds_alternative<ReplaceMachine>(action.what)) {
        ++outcome_.num_replacements;
      } else if (std::holds_alternative<Shrink>(action.what)) {
        ++outcome_.num_shrinks;
      } else if (std::holds_alternative<Grow>(action.what)) {
        ++outcome_.num_grows;
      } else if (std::holds_alternative<Drain>(action.what)) {
        ++outcome_.num_drains;
      }
    }
    training_from_ = now_ + options_.restart_seconds;
    go_back();
    const auto left = [&](int machine) {
      const Machine& now = fleet_.machines[static_cast<size_t>(machine)];
      if (now.state == MachineState::kOutOfOrder) schedule_repair(machine);
      return now.state != MachineState::kInRun;
    };
    std::erase_if(silent_, left);
    std::erase_if(slow_, left);
    // Started anew, or no longer asked for.
    std::erase_if(lost_, [&](const auto& entry) {
      const auto& [machine, local_rank] = entry.first;
      if (left(machine)) return true;
      return fleet_.processes.at(rank_on(machine, local_rank)) != entry.second.process;
    });
    for (const Action& action : decision.actions) {
      if (const auto* replace = std::get_if<ReplaceMachine>(&action.what)) {
        left(replace->machine);
      }
    }
  }

  struct LostProcess {
    int64_t process = 0;
    bool hangs = false;  // else it ended
  };

  FleetSimulationOptions options_;
  const double end_;
  Fleet fleet_;
  Fence fence_;
  FleetOutcome outcome_;
  uint64_t num_drawn_ = 0;
  double now_ = 0;
  double training_from_ = 0;
  double broken_since_ = 0;
  double next_fault_ = 0;
  double at_risk_ = 0;  // useful since the last checkpoint
  bool loses_ = false;  // it
  int64_t num_timed_steps_ = 0;
  // What is so, and may not be known yet.
  std::set<int> silent_, slow_;                      // machines of the run
  std::map<std::pair<int, int>, LostProcess> lost_;  // by machine and rank on it
  std::set<int> repairing_;
  std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>, std::greater<>> repairs_;
};

}  // namespace

Result<FleetOutcome> simulate_fleet(const FleetSimulationOptions& options) {
  RETURN_IF_ERROR(check(options.shape));
  const double shares = options.share_of_exits + options.share_of_hangs + options.share_of_slow;
  if (!(options.days > 0) || !(options.faults_per_machine_day >= 0) || options.repair_days.empty() || !(shares <= 1) ||
      !(options.step_seconds > 0) || !(options.checkpoint_every_seconds > 0) || !(options.checkpoint_seconds >= 0) ||
      !(options.restart_seconds > 0) || !(options.slow_ratio >= 1)) {
    return invalid("a simulation needs a time, rates and shares that are not negative, and repair times");
  }
  return Simulation(options).run();
}

}  // namespace colossus
