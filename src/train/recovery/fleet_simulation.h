// A run of any size played in virtual time against faults drawn at random, with the decisions of decision.h: what share
// of the machines' time is useful. Only what differs from the ordinary costs anything, so that months of a hundred
// thousand ranks take seconds.
//
// The model: training is synchronous. From a fault on nothing is gained; what was done since the last checkpoint is
// done again; a new generation needs restart_seconds until its first step. A machine that breaks is repaired after a
// time drawn from repair_days and becomes a spare. A data axis of n ranks does n/N of the work of the whole one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "train/recovery/decision.h"

namespace colossus {

// Quantiles 0, 1/10, … 1 of the repair times of 584 faults of 400 machines with eight GPUs in 348 days, in days:
// the trace of InfiniteHBD (Shou et al., SIGCOMM 2025).
inline constexpr std::array<double, 11> kRepairDays = {0.001, 0.0094, 0.0446, 0.136, 0.483, 0.85,
                                                       1.56,  2.49,   4.59,   13.0,  131};

struct FleetSimulationOptions {
  FleetShape shape;
  RecoveryPolicy policy;
  double days = 1;
  double faults_per_machine_day = 4e-3;
  // How faults show; the rest are machines that fall silent.
  double share_of_exits = 0.2;
  double share_of_hangs = 0.05;
  double share_of_slow = 0.05;  // by slow_ratio
  float slow_ratio = 1.2f;
  std::vector<double> repair_days{kRepairDays.begin(), kRepairDays.end()};  // one of them, at random
  double step_seconds = 10;
  double checkpoint_every_seconds = 180;
  double checkpoint_seconds = 5;  // that training waits for one
  double restart_seconds = 120;
  uint64_t seed = 0;
};

struct FleetOutcome {
  // Of all time; they add up to 1.
  double useful = 0;
  double redone = 0;      // lost with a fault
  double recovering = 0;  // noticing, waiting, starting
  double checkpoints = 0;
  double slow = 0;     // waiting for slow machines
  double missing = 0;  // of the data axis
  double stopped = 0;  // after the run had stopped

  int64_t num_faults = 0, num_decisions = 0;  // that began a generation
  int64_t num_restarts = 0, num_replacements = 0, num_shrinks = 0, num_grows = 0, num_drains = 0;
  std::string stop_reason;  // "" when it ran to the end

  friend bool operator==(const FleetOutcome&, const FleetOutcome&) = default;
};

// kInvalid for shapes and numbers that make no sense.
Result<FleetOutcome> simulate_fleet(const FleetSimulationOptions& options);

}  // namespace colossus
