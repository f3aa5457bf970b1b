// The end of processes that nobody watches.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <utility>

#include "base/clock.h"
#include "cli/exit_code.h"

namespace colossus {

// A worker whose supervisor is gone was told to save and end. When that hangs nobody else ends it.
class OrphanWatch {
 public:
  explicit OrphanWatch(double patience_seconds) : patience_seconds_(patience_seconds), parent_(::getppid()) {}

  void look(int64_t progress) {
    const double now = monotonic_seconds();
    if (std::exchange(progress_, progress) != progress || ::getppid() == parent_) progress_at_ = now;
    if (now - progress_at_ > patience_seconds_) ::_exit(exit_code(unavailable("")));
  }

 private:
  const double patience_seconds_;
  const pid_t parent_;
  int64_t progress_ = -1;
  double progress_at_ = 0;
};

}  // namespace colossus
