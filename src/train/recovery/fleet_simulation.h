// A run of any size played in virtual time against faults drawn at random, with the decisions of decision.h: what share
// of the machines' time is useful, and where the rest goes. Only what differs from the ordinary costs anything, so that
// months of a hundred thousand ranks take less than a second.
//
// The model: training is synchronous. From a fault on nothing is gained until the first step of a new generation, which
// begins restart_seconds after the decision, and later where state has to be loaded. What was done since the last
// checkpoint is done again; with copies at peers (state_keeper.h) only the step under way, unless two neighbours were
// lost at once. A machine that breaks is repaired after a time drawn for its cause and becomes a spare. Steps take
// longer where data ranks are missing or slower (fleet_pace.h).
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/status.h"
#include "train/recovery/decision.h"
#include "train/recovery/fault_draws.h"
#include "train/recovery/fleet_pace.h"

namespace colossus {

// Machines are taken out on purpose, after a checkpoint.
struct PlannedOutage {
  double every_days = 30;
  double hours = 4;
  double share = 1;  // of the machines, others each time; 1: all
};

struct FleetSimulationOptions {
  FleetShape shape;                // of day 0
  std::vector<MachineKind> kinds;  // empty: all alike, and all there. Those of day 0 are the shape's machines
  RecoveryPolicy policy;
  double days = 1;
  double work_days = std::numeric_limits<double>::infinity();  // the run ends earlier when so much is trained
  std::vector<FaultCause> causes;
  std::vector<PlannedOutage> outages;
  float slow_ratio = 1.2f;
  double step_seconds = 10;
  int64_t microbatches = 0;  // of a step, that data ranks share; 0: work that can be cut at will
  double fixed_share = 0;    // of step_seconds, what fewer microbatches do not make shorter: bubble, update
  double checkpoint_every_seconds = 180;
  double checkpoint_seconds = 5;  // that training waits for one
  bool peer_copies = false;
  double restart_seconds = 120;
  double peer_load_seconds = 0;        // more, when machines join
  double checkpoint_load_seconds = 0;  // more, when all go back to a checkpoint
  // After a stop a person resumes; infinity: nobody.
  double person_seconds = std::numeric_limits<double>::infinity();
  uint64_t seed = 0;
  uint64_t run = 0;  // of several with one seed
};

struct CauseCount {
  int64_t faults = 0;
  int64_t interruptions = 0;  // of training that was under way; by slow machines: when they are drained
  friend bool operator==(const CauseCount&, const CauseCount&) = default;
};

struct KindUse {
  double busy_machine_days = 0;  // in the run, training
  double idle_machine_days = 0;  // waiting, spare or out of order
  friend bool operator==(const KindUse&, const KindUse&) = default;
};

// From one delivery of machines to the next.
struct FleetPhase {
  double from_day = 0, days = 0;
  int data_ranks = 0;      // of a run in which nothing is missing
  double whole_rate = 1;   // of that run, over that of day 0 at speed 1
  double useful = 0;       // share of the phase
  double work_days = 0;    // trained in it
  double joined_days = 0;  // from the delivery until the run was to go on with the new machines; 0: it never was
  friend bool operator==(const FleetPhase&, const FleetPhase&) = default;
};

struct FleetOutcome {
  double days = 0;  // that it took
  // Of all time; they add up to 1.
  double useful = 0;
  double redone = 0;     // lost with a fault
  double detecting = 0;  // from a fault until it is decided what to do
  double waiting = 0;    // for machines
  double starting = 0;   // from the decision until the first step
  double checkpoints = 0;
  double maintenance = 0;
  double slow = 0;     // waiting for slow machines
  double missing = 0;  // of the data axis
  double stopped = 0;  // after the run had stopped

  // What was trained, in days of the whole run of day 0 without any loss.
  double work_days = 0;
  std::vector<CauseCount> causes;  // as the options'
  std::vector<KindUse> kinds;
  std::vector<FleetPhase> phases;
  int64_t num_faults = 0, num_decisions = 0;  // that began a generation
  int64_t num_restarts = 0, num_replacements = 0, num_shrinks = 0, num_grows = 0, num_drains = 0, num_stops = 0;
  int64_t num_checkpoint_loads = 0;
  std::string stop_reason;  // the last; "" when it never stopped

  friend bool operator==(const FleetOutcome&, const FleetOutcome&) = default;
};

// kInvalid for shapes and numbers that make no sense.
Result<FleetOutcome> simulate_fleet(const FleetSimulationOptions& options);

}  // namespace colossus
