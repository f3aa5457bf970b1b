// Plays a rank's program on a clock: each operation takes what it is said to take, lanes run side by side, and what
// waits for what is what really waits (program/lane_order.h).
#pragma once

#include <map>
#include <vector>

#include "base/function_ref.h"
#include "device/sim/kernel_work.h"

namespace colossus {

struct PlayedProgram {
  struct Interval {
    double start = 0, end = 0;  // seconds
  };
  std::vector<Interval> operations;
  double seconds = 0;                         // until the last operation is done, but for sends that outlive the run
  double compute_seconds = 0;                 // the compute lane's work; what is left of `seconds` it waited
  std::map<RankGroup, double> group_seconds;  // each other lane's work
};

PlayedProgram play(const PlayableProgram& program, FunctionRef<double(const KernelWork&)> seconds_of);

}  // namespace colossus
