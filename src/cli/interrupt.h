// Ctrl-C, SIGTERM and SIGUSR1 (a scheduler's warning) as a flag that long work looks at between steps.
#pragma once

#include <atomic>

namespace colossus {

// While one lives, the first SIGINT, SIGTERM or SIGUSR1 sets the flag and prints `message`, if it is not empty; a
// second SIGINT or SIGTERM ends the process at once with 130. Before and after, signals do what they always do. One at
// a time.
class InterruptScope {
 public:
  explicit InterruptScope(const char* message = "stopping after this step; Ctrl-C again stops at once");
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // Set once, never cleared while the scope lives. Other threads may read it.
  const std::atomic<bool>& requested() const;
};

}  // namespace colossus
