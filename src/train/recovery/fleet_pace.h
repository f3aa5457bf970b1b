// How fast a run is whose machines are not equally fast and whose data ranks come and go: each data rank takes as many
// of a step's microbatches as suits it (train/leaf_balance.h), and the step ends with the last.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "train/recovery/fleet.h"

namespace colossus {

// Machines of one kind; they are numbered one kind after the other.
struct MachineKind {
  int machines = 0;
  double speed = 1;        // of their ranks; a step's time is that of ranks of speed 1
  double fault_scale = 1;  // times the rates of causes that take single machines
  double arrives_day = 0;  // of later kinds: the run grows then
  int data_ranks = 0;      // that they hold in a whole run; 0: spares
};

// Data ranks of one speed.
struct PaceGroup {
  double speed = 1;
  int64_t data_ranks = 0;
};

// The time of a step over that of one microbatch at speed 1: the least T such that ranks that do floor(T · speed) of
// them do all. 0 microbatches: the work can be cut at will, and is one microbatch. Speeds are above 0, somebody is
// there.
double step_microbatches(std::span<const PaceGroup> groups, int64_t microbatches);

// Follows the run's blocks; a block is as fast as its slowest machine.
class FleetPace {
 public:
  FleetPace(std::vector<MachineKind> kinds, int64_t microbatches);

  int kind_of(int machine) const;
  // After the run shrank or grew; costs all its machines where there are several speeds.
  void rebuild(const Fleet& fleet);
  // After another machine came into `slot`.
  void replaced(const Fleet& fleet, int slot);

  // Steps in a second over those of `data_ranks` of speed 1.
  double rate(int data_ranks);
  // The same for a run in which nothing is missing of what has arrived by `day`.
  double whole_rate(double day, int data_ranks) const;

 private:
  double block_speed(const Fleet& fleet, int block) const;
  double rate_of(std::span<const PaceGroup> groups, int data_ranks) const;

  std::vector<MachineKind> kinds_;
  std::vector<int> end_of_kind_;
  int64_t microbatches_;
  bool even_ = true;  // all speeds are equal
  int data_ranks_per_block_ = 1;
  int num_blocks_ = 0;
  std::vector<double> speed_of_block_;  // where they differ
  std::map<double, int> blocks_of_speed_;
  double rate_ = 0;  // of the present blocks; 0: not computed
};

}  // namespace colossus
