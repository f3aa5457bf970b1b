// Time behind an interface, so that tests and simulations can move it by hand.
#pragma once

#include <chrono>

namespace colossus {

// Seconds on a clock that never goes back; only differences mean anything.
inline double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace colossus
