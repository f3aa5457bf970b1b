// What the supervisor knows of a run: who does what on which machine, and what was heard of them. Plain data, changed
// by observations (here) and decisions (train/recovery/decision.h) and nothing else: no clock, no network, no threads.
//
// Machines are numbered; those of the run fill *slots*, the others are spares or out of order. Slot s holds ranks
// s·ranks_per_machine and on. A *block* is the smallest piece of the data axis that is made of whole machines: the run
// shrinks and grows by blocks, and its ranks are always 0..n-1.
//
// A *generation* is one membership of the run. Whenever ranks are started again or placed elsewhere, a new one begins,
// and all ranks join it at the last checkpoint. A process is known by the generation in which it was started.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "train/recovery/range_map.h"

namespace colossus {

struct FleetShape {
  int ranks_per_machine = 8;
  int ranks_per_data_rank = 8;  // one copy of the model; divides ranks_per_machine, or the other way round
  int data_ranks = 1;           // of the whole run
  int num_spares = 0;

  int ranks_per_block() const { return std::max(ranks_per_machine, ranks_per_data_rank); }
  int machines_per_block() const { return ranks_per_block() / ranks_per_machine; }
  int data_ranks_per_block() const { return ranks_per_block() / ranks_per_data_rank; }
  int num_blocks() const { return data_ranks / data_ranks_per_block(); }
  int num_slots() const { return num_blocks() * machines_per_block(); }
  int num_machines() const { return num_slots() + num_spares; }

  friend bool operator==(const FleetShape&, const FleetShape&) = default;
};
Status check(const FleetShape& shape);

enum class MachineState { kInRun, kSpare, kOutOfOrder };

struct Machine {
  MachineState state = MachineState::kSpare;
  int slot = -1;  // of one in the run
  int num_faults = 0;

  friend bool operator==(const Machine&, const Machine&) = default;
};

struct RankReport {
  int64_t generation = -1;  // the last it joined; before its process was heard: -1
  double seen_at = 0;       // alive, of the process
  int64_t step = -1;        // the last finished in this generation
  int64_t collective = -1;  // the last begun in this generation
  double progress_at = 0;   // when one of the two grew
  std::string waits_in;     // a collective's name; "" while it computes
  bool finished = false;

  friend bool operator==(const RankReport&, const RankReport&) = default;
};

// The process of a rank ended or has to be ended.
struct RankFault {
  int rank = 0;
  int64_t process = 0;
  int code = 0, signal = 0;
  std::string what;            // "was ended by signal 9"
  bool wrong_numbers = false;  // it lives, and errs
};

// A slot without a machine.
struct Vacancy {
  int machine = -1;  // that was there; -1: none yet
  std::string reason;
};

struct PendingRestart {
  double due = 0;
  std::string reason;
};

struct RankHistory {
  std::deque<double> restarts;
  double replaced_at = -1e300;  // its machine, because of it
};

// How much longer than the median of its peers a rank took, over the last steps.
struct SlowWindow {
  std::deque<float> ratios;
  int64_t last_step = -1;
};

struct Fleet {
  FleetShape shape;
  std::vector<std::string> machine_names;  // may be empty: they are then called by number

  int num_blocks = 0;                // of the run now
  std::vector<int> machine_of_slot;  // -1: vacant
  std::map<int, Vacancy> vacant;     // by slot
  std::vector<Machine> machines;
  std::set<std::pair<int, int>> spares;  // (faults so far, machine): the best first
  RangeMap<double> machine_seen_at;
  RangeMap<RankReport> ranks;
  // By rank, apart from the reports: whoever was started in different generations does the same ever after.
  RangeMap<int64_t> processes;

  int64_t generation = 0;
  double generation_since = 0;
  double trusted_since = 0;  // silence before that was the listener's

  std::vector<RankFault> faults;  // not yet judged
  std::map<int, PendingRestart> pending;
  std::map<int, RankHistory> history;
  std::map<int, SlowWindow> slow;
  std::map<int, double> drained_at;  // by slot

  int64_t best_step = -1;
  int num_fruitless = 0;       // generations since best_step grew that a fault began
  double short_since = -1;     // too few machines to run; -1: enough
  double growable_since = -1;  // enough spares for one block more; -1: not
  int num_finished = 0;
  std::string stopped;  // why; "" while it runs

  int num_slots() const { return num_blocks * shape.machines_per_block(); }
  int num_ranks() const { return num_blocks * shape.ranks_per_block(); }
  int data_ranks() const { return num_blocks * shape.data_ranks_per_block(); }
  int slot_of_rank(int rank) const { return rank / shape.ranks_per_machine; }
  std::string machine_name(int machine) const;
  std::string rank_name(int rank) const;  // "rank 3 (node-2)"
};

// Machine m < num_slots() is in slot m, the others are spares. All processes are being started at `now`.
Fleet make_fleet(const FleetShape& shape, double now);

// Observations. Times are those of the listener's clock and do not go back.

// The machines' agents answer: first_machine..end_machine-1.
struct MachineHeartbeat {
  double time = 0;
  int first_machine = 0, end_machine = 0;
};
void observe(Fleet& fleet, const MachineHeartbeat& heartbeat);

// The processes of first_rank..end_rank-1 live and have come this far. Of another generation than now: ignored.
struct RankHeartbeat {
  double time = 0;
  int first_rank = 0, end_rank = 0;
  int64_t generation = 0;
  int64_t step = -1;
  int64_t collective = -1;
  std::string waits_in;
};
void observe(Fleet& fleet, const RankHeartbeat& heartbeat);

// An agent saw a process of its machine end. Of a process that is not (any more) the run's: ignored, so that it may be
// told twice. Code 0: the rank has finished the run.
struct RankExit {
  int machine = 0;
  int local_rank = 0;
  int64_t process = 0;
  int code = 0, signal = 0;
};
void observe(Fleet& fleet, const RankExit& exit);

// The ranks have found together that this one computes wrong numbers (train/verification.h). May be told twice.
struct WrongNumbers {
  int rank = 0;
  int64_t process = 0;
};
void observe(Fleet& fleet, const WrongNumbers& wrong);

// An agent started, after a repair or by itself, and found its machine in order. If the run believes its ranks to be
// there, they are no more.
struct MachineReady {
  double time = 0;
  int machine = 0;
};
void observe(Fleet& fleet, const MachineReady& ready);

// Of a step that all ranks finished: who took longer than allowed compared with its peers. Others are taken for even.
struct SlowRank {
  int rank = 0;
  float ratio = 1;  // its time without waiting, over the median of its peers
};
struct StepTimes {
  int64_t generation = 0;
  int64_t step = 0;
  std::vector<SlowRank> slow;
};
void observe(Fleet& fleet, const StepTimes& times, int window_steps);

// Who took more than `ratio` times the median, of the ranks with the same place in every data rank: these do the same
// work. Of fewer than three nobody can be said to be the slow one. seconds[rank]: without waiting for others.
std::vector<SlowRank> slower_than_peers(const FleetShape& shape, const std::vector<float>& seconds, float ratio);

}  // namespace colossus
