// For tests only: machines and processes that decisions are carried out on, by the book and suspiciously, without
// looking at what the decider believes.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "train/recovery/decision.h"

namespace colossus {

inline std::string print(const Action& action) {
  struct Printer {
    std::string operator()(const Continue&) const { return "continue"; }
    std::string operator()(const RestartRanks& a) const {
      return fmt::format("restart {}..{}", a.first_rank, a.end_rank - 1);
    }
    std::string operator()(const ReplaceMachine& a) const {
      return fmt::format("replace {}: {}->{}", a.slot, a.machine, a.spare);
    }
    std::string operator()(const Shrink& a) const { return fmt::format("shrink {} without {}", a.data_ranks, a.block); }
    std::string operator()(const Grow& a) const {
      return fmt::format("grow {} by {}", a.data_ranks, fmt::join(a.machines, ","));
    }
    std::string operator()(const Drain& a) const { return fmt::format("drain {}: {}->{}", a.slot, a.machine, a.spare); }
    std::string operator()(const Stop& a) const { return a.finished ? "finished" : "stop"; }
  };
  return std::visit(Printer(), action.what);
}

inline std::string print(const Decision& decision) {
  std::string text;
  for (const Action& action : decision.actions) text += (text.empty() ? "" : ", ") + print(action);
  return text;
}

class FleetWorld {
 public:
  FleetWorld(const FleetShape& shape, const RecoveryPolicy& policy)
      : policy(policy), fleet(make_fleet(shape, 0)), shape_(shape) {
    for (int slot = 0; slot < shape.num_slots(); ++slot) {
      placement_.push_back(slot);
      start_processes(slot, 0, shape.ranks_per_machine);
    }
  }

  // Faults.
  void silence(int machine) { silent_.insert(machine); }  // its processes are gone when it comes back
  void hear_again(int machine) { silent_.erase(machine); }
  void repair(int machine) {
    silent_.erase(machine);
    for (int i = 0; i < shape_.ranks_per_machine; ++i) processes_.erase({machine, i});
    observe(fleet, MachineReady{.time = now_, .machine = machine});
  }
  void end_process(int rank, int code, int signal) {
    const int machine = machine_of(rank), local = rank % shape_.ranks_per_machine;
    const auto process = processes_.find({machine, local});
    if (process == processes_.end()) return;
    last_exit_ = {
        .machine = machine, .local_rank = local, .process = process->second.id, .code = code, .signal = signal};
    if (code == 0 && signal == 0) {
      process->second.finished = true;
    } else {
      processes_.erase(process);
    }
    if (!silent_.contains(machine)) observe(fleet, last_exit_);
  }
  void tell_last_exit_again() { observe(fleet, last_exit_); }
  void hang(int rank) {
    const auto process = processes_.find({machine_of(rank), rank % shape_.ranks_per_machine});
    if (process != processes_.end()) process->second.hangs = true;
  }
  void freeze(int rank) {
    const auto process = processes_.find({machine_of(rank), rank % shape_.ranks_per_machine});
    if (process != processes_.end()) process->second.frozen = true;
  }
  void tell_of_wrong_numbers(int rank) {
    observe(fleet, WrongNumbers{.rank = rank, .process = fleet.processes.at(rank)});
  }
  void slow_down(int machine, float ratio) { slow_[machine] = ratio; }
  void stall_network(bool stalls) { network_stalls_ = stalls; }
  void crash_whenever_started(int rank) { doomed_.insert(rank); }

  // One second: everyone who can does a step and says so, and a decision is taken and carried out.
  Decision tick() {
    now_ += 1;
    for (const int rank : doomed_) {
      const Process* process = process_of(rank);
      if (process != nullptr && now_ >= process->ready_at) end_process(rank, 1, 0);
    }
    work();
    const Decision decision = decide(policy, fleet, lease, now_);
    carry_out(decision);
    return decision;
  }

  double now() const { return now_; }
  int64_t step() const { return step_; }
  int num_ranks() const { return static_cast<int>(placement_.size()) * shape_.ranks_per_machine; }
  int num_machines() const { return shape_.num_machines(); }
  bool is_silent(int machine) const { return silent_.contains(machine); }
  int data_ranks() const { return num_ranks() / shape_.ranks_per_data_rank; }
  int machine_of(int rank) const { return placement_[static_cast<size_t>(rank / shape_.ranks_per_machine)]; }

  RecoveryPolicy policy;
  Fleet fleet;
  Lease lease = {.term = 1, .valid_until = 1e300};
  double start_seconds = 4;

 private:
  struct Process {
    int64_t id = 0;
    double ready_at = 0;
    bool hangs = false, frozen = false, finished = false;
  };

  const Process* process_of(int rank) const {
    const auto found = processes_.find({machine_of(rank), rank % shape_.ranks_per_machine});
    return found == processes_.end() ? nullptr : &found->second;
  }
  bool answers(int rank) const {
    const Process* process = process_of(rank);
    return process != nullptr && !process->finished && !process->frozen && now_ >= process->ready_at &&
           !silent_.contains(machine_of(rank));
  }

  void work() {
    for (int machine = 0; machine < num_machines(); ++machine) {
      if (silent_.contains(machine)) continue;
      observe(fleet, MachineHeartbeat{.time = now_, .first_machine = machine, .end_machine = machine + 1});
    }
    bool all = !network_stalls_;
    for (int rank = 0; rank < num_ranks(); ++rank) all &= answers(rank) && !process_of(rank)->hangs;
    if (all) ++step_in_generation_, ++step_;
    const bool hung = !all && step_in_generation_ >= 0 && !network_stalls_;
    for (int rank = 0; rank < num_ranks(); ++rank) {
      if (!answers(rank)) continue;
      const bool waits = hung && !process_of(rank)->hangs;
      observe(fleet, RankHeartbeat{.time = now_,
                                   .first_rank = rank,
                                   .end_rank = rank + 1,
                                   .generation = fleet.generation,
                                   .step = step_in_generation_ < 0 ? -1 : step_,
                                   .collective = step_in_generation_ < 0 ? -1 : 10 * step_ + (waits ? 1 : 0),
                                   .waits_in = waits || network_stalls_ ? "all_to_all" : ""});
    }
    if (!all) return;
    StepTimes times{.generation = fleet.generation, .step = step_};
    for (int rank = 0; rank < num_ranks(); ++rank) {
      const auto slow = slow_.find(machine_of(rank));
      if (slow != slow_.end()) times.slow.push_back({rank, slow->second});
    }
    observe(fleet, times, policy.straggler_steps);
  }

  void start_processes(int slot, int first, int end) {
    for (int i = first; i < end; ++i) {
      const int machine = placement_[static_cast<size_t>(slot)];
      if (silent_.contains(machine)) continue;
      processes_[{machine, i}] = {.id = fleet.generation, .ready_at = now_ + start_seconds};
    }
  }

  void end_processes(int machine) {
    for (int i = 0; i < shape_.ranks_per_machine; ++i) processes_.erase({machine, i});
  }

  // Those of one decision at once: a machine may leave one slot for another.
  void move_all(const std::vector<ReplaceMachine>& moves) {
    for (const auto& [slot, machine, spare] : moves) {
      ASSERT_LT(slot, static_cast<int>(placement_.size()));
      int& owner = placement_[static_cast<size_t>(slot)];
      EXPECT_EQ(owner, machine);
      end_processes(owner);
      slow_.erase(owner);
      owner = -1;
    }
    for (const auto& [slot, machine, spare] : moves) {
      EXPECT_EQ(std::ranges::count(placement_, spare), 0) << "machine " << spare << " has ranks already";
      placement_[static_cast<size_t>(slot)] = spare;
      start_processes(slot, 0, shape_.ranks_per_machine);
    }
  }

  void carry_out(const Decision& decision) {
    for (const Action& action : decision.actions) EXPECT_NE(action.reason, "");
    if (!fence_.accepts(decision.term, decision.generation)) {
      for (const Action& action : decision.actions) {
        EXPECT_TRUE(std::holds_alternative<Continue>(action.what) || std::holds_alternative<Stop>(action.what));
      }
      return;
    }
    step_in_generation_ = -1;
    step_ = std::max<int64_t>(0, step_ - 2);  // the last checkpoint
    const int per_machine = shape_.ranks_per_machine, width = shape_.machines_per_block();
    std::vector<ReplaceMachine> moves;
    for (const Action& action : decision.actions) {
      if (const auto* restart = std::get_if<RestartRanks>(&action.what)) {
        EXPECT_LT(restart->first_rank, restart->end_rank);
        ASSERT_LE(restart->end_rank, num_ranks());
        for (int rank = restart->first_rank; rank < restart->end_rank; ++rank) {
          start_processes(rank / per_machine, rank % per_machine, rank % per_machine + 1);
        }
      } else if (const auto* replace = std::get_if<ReplaceMachine>(&action.what)) {
        moves.push_back(*replace);
      } else if (const auto* drain = std::get_if<Drain>(&action.what)) {
        moves.push_back({drain->slot, drain->machine, drain->spare});
      } else if (const auto* shrink = std::get_if<Shrink>(&action.what)) {
        for (int i = 0; i < width; ++i) {
          const size_t slot = static_cast<size_t>(shrink->block * width + i);
          end_processes(placement_[slot]);
          placement_[slot] = placement_[placement_.size() - static_cast<size_t>(width - i)];
        }
        placement_.resize(placement_.size() - static_cast<size_t>(width));
        EXPECT_EQ(data_ranks(), shrink->data_ranks);
      } else if (const auto* grow = std::get_if<Grow>(&action.what)) {
        for (const int machine : grow->machines) {
          EXPECT_EQ(std::ranges::count(placement_, machine), 0);
          placement_.push_back(machine);
          start_processes(static_cast<int>(placement_.size()) - 1, 0, per_machine);
        }
        EXPECT_EQ(data_ranks(), grow->data_ranks);
      }
    }
    move_all(moves);
    EXPECT_GE(data_ranks(), policy.min_data_ranks);
    EXPECT_EQ(std::set<int>(placement_.begin(), placement_.end()).size(), placement_.size()) << "two owners";
    ASSERT_EQ(fleet.machine_of_slot.size(), placement_.size());
    for (size_t slot = 0; slot < placement_.size(); ++slot) {
      if (fleet.machine_of_slot[slot] >= 0) {
        EXPECT_EQ(fleet.machine_of_slot[slot], placement_[slot]);
      }
    }
  }

  const FleetShape shape_;
  Fence fence_;
  double now_ = 0;
  int64_t step_ = 0, step_in_generation_ = -1;
  std::vector<int> placement_;                        // machine of each slot
  std::map<std::pair<int, int>, Process> processes_;  // by machine and rank on it
  std::set<int> silent_, doomed_;
  std::map<int, float> slow_;
  bool network_stalls_ = false;
  RankExit last_exit_;
};

}  // namespace colossus
