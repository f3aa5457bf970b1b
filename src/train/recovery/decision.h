// What to do when machines, processes and networks fail: a function of what was observed, a policy, a lease and the
// time.
//
//   a machine is silent              its ranks move to a spare; without one the data axis loses a block
//   a process ends, or is silent     it is started again on its machine: after a pause that doubles, and only so often;
//                                    then on another machine; then the run stops
//   a rank computes wrong numbers    as if its machine was silent; where nothing can take its place, as if it had ended
//   nobody makes progress            whoever has come least far, and lives, is started again; if all have come equally
//                                    far it is the network, and all are
//   a machine is slow for long       its ranks move to a spare
//   machines came back               they become spares; once they last for a block, the data axis grows
//   too few machines                 the run waits for one, and stops after a while
//   more than half are silent        it is the listener who is cut off: nothing is done
//
// With the same arguments the same is decided. A call costs the ranks and machines that differ from the others.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "train/recovery/fleet.h"
#include "train/recovery/leader_election.h"

namespace colossus {

struct RecoveryPolicy {
  double dead_after_seconds = 5;      // of silence
  double hang_after_seconds = 30;     // alive, without a step or a collective
  double start_within_seconds = 600;  // from the start of a process until it is heard, then until its first step

  int max_restarts = 3;  // of one rank on one machine within restart_window_seconds
  double restart_window_seconds = 3600;
  double backoff_seconds = 1;  // before the first; doubles
  double longest_backoff_seconds = 60;
  int max_fruitless = 10;       // generations begun by faults without a new step in between
  int peer_lost_exit_code = 6;  // of a process that only lost its peers ("unavailable"): not held against it
  int hopeless_exit_code = 2;   // "invalid": trying again will not help

  float straggler_ratio = 1.1f;
  int straggler_steps = 20;

  int min_data_ranks = 1;
  double give_up_seconds = 3600;   // waiting for machines
  double grow_after_seconds = 60;  // that spares have been there
};

struct Continue {};
// On the machines where they are, as new processes.
struct RestartRanks {
  int first_rank = 0, end_rank = 0;
};
// The slot's ranks are started on `spare`. What still runs on `machine` is no part of the run. Those of one decision
// happen at once, so that a machine may leave one slot for another.
struct ReplaceMachine {
  int slot = 0;
  int machine = 0;
  int spare = 0;
};
// Machines of `block` leave. The last block takes its number, and so its ranks.
struct Shrink {
  int data_ranks = 0;
  int block = 0;
};
// A block more, at the end.
struct Grow {
  int data_ranks = 0;
  std::vector<int> machines;
};
// As ReplaceMachine, but the machine works: finish a checkpoint first.
struct Drain {
  int slot = 0;
  int machine = 0;
  int spare = 0;
};
struct Stop {
  bool finished = false;
  std::string advice;  // what a person should do
};

struct Action {
  std::variant<Continue, RestartRanks, ReplaceMachine, Shrink, Grow, Drain, Stop> what;
  std::string reason;
};

// Carried out in order and as a whole, by those whose Fence accepts it. With anything but Continue and Stop a new
// generation begins.
struct Decision {
  int64_t term = 0;
  int64_t generation = 0;
  std::vector<Action> actions;  // at least one
};

Decision decide(const RecoveryPolicy& policy, Fleet& fleet, const Lease& lease, double now);

// A supervisor that took over knows nothing of who was heard before: silence begins now.
void take_office(Fleet& fleet, double now);

}  // namespace colossus
