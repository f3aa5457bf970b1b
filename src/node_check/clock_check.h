// Does time run forwards, evenly, and as others have it? Steps and reports do not compare machines' clocks, but logs,
// certificates and leases do.
#pragma once

#include <string>
#include <vector>

#include "node_check/report.h"

namespace colossus {

// Begins to watch when it is made; the longer until finish(), the finer.
class ClockCheck {
 public:
  ClockCheck();
  // "clock": the greatest error in ms that the kernel admits (adjtimex), the state of its synchronisation, steps and
  // drift of the wall clock against the crystal since the beginning, and clocks that go back between cores.
  CheckResult finish();

 private:
  double wall_ = 0, raw_ = 0;
};

struct ClockWatch {
  double wall_seconds = 0;   // CLOCK_REALTIME: what others see, steered
  double raw_seconds = 0;    // CLOCK_MONOTONIC_RAW: the crystal
  int64_t num_backward = 0;  // readings of the monotonic clock below one that another core had made before
  bool synchronised = false;
  double max_error_ms = 0;
};
CheckResult judge_clock(const ClockWatch& watch);

// How often the monotonic clock went back while it was read on each usable core in turn.
int64_t count_backward_readings(int rounds);

}  // namespace colossus
