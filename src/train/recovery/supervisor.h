// Starts the workers of a run on one machine, watches them, and does what decide() says when some are lost.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/child_process.h"
#include "train/recovery/decision.h"
#include "train/recovery/membership.h"

namespace colossus {

struct SupervisorOptions {
  std::vector<std::string> command;  // of a worker; it learns who it is from kWorkerVariable
  MeshConfig mesh;                   // of the whole run
  std::vector<std::pair<std::string, std::string>> environment;  // of all workers
  RecoveryPolicy policy;
  // For tests: what a rank's first worker has in its environment beside that.
  std::function<std::vector<std::pair<std::string, std::string>>(int64_t rank)> environment_of = nullptr;
};

// In the environment of a worker: its name in Membership::workers.
inline constexpr const char* kWorkerVariable = "COLOSSUS_WORKER";

class Supervisor {
 public:
  // `note`: what happened and what is done about it, a line each.
  Supervisor(SupervisorOptions options, KeyValueStore& store, std::function<void(const std::string&)> note)
      : options_(std::move(options)), store_(store), note_(std::move(note)) {}

  // Until all workers have finished (ok), the run cannot go on (why, and what a person should do), or it was stopped
  // (kInterrupted, once the workers have saved). No worker outlives the call.
  Status run(const std::atomic<bool>& stop_requested);

 private:
  struct WorkerProcess {
    std::string name;
    int64_t started_in = 0;  // generation
    ChildProcess process;
    bool end_was_told = false;
    std::string last_words;
    Heartbeat heartbeat;
  };

  Status start(int64_t rank, bool first_time);
  Status begin_generation();
  void listen(double now);
  Status carry_out(const Decision& decision);
  Status join_again_when_broken(double now);
  Status end_run(const std::string& reason, const std::string& advice);
  bool all_ended();

  const SupervisorOptions options_;
  KeyValueStore& store_;
  const std::function<void(const std::string&)> note_;
  Fleet fleet_;
  std::vector<std::optional<WorkerProcess>> workers_;  // by rank
  int64_t num_started_ = 0;
  bool stopping_ = false;
  double broken_since_ = -1;
  int num_broken_in_a_row_ = 0;
  int64_t broken_at_step_ = -1;
};

}  // namespace colossus
