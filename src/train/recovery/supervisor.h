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
  std::string faults;  // for tests: see faults_of_process
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
    std::optional<ProcessEnd> end;  // once the fleet was told
    std::string last_words;
    Heartbeat heartbeat;
  };

  Status watch(const std::atomic<bool>& stop_requested);
  Status start(int64_t rank);
  Status begin_generation();
  void listen(double now);
  Status carry_out(const Decision& decision);
  Status join_again_when_broken(double now);
  Status end_run(const std::string& reason, const std::string& advice);
  void tell_of_recovery(double now);
  bool all_ended() const;
  // A stop: passed on to the workers once they can save, and enforced when they do not get on with it.
  void stop_workers(double now);
  Status end_of_stop() const;

  const SupervisorOptions options_;
  KeyValueStore& store_;
  const std::function<void(const std::string&)> note_;
  Fleet fleet_;
  std::vector<std::optional<WorkerProcess>> workers_;  // by rank
  std::vector<int64_t> num_started_;                   // by rank
  double fault_at_ = -1;                               // heard of first; -1: none that is not overcome
  int64_t fault_after_step_ = -1;
  double stop_at_ = -1;  // requested; -1: not
  bool stopping_ = false;
  int64_t progress_of_stop_ = -1;
  double progress_of_stop_at_ = 0;
  double broken_since_ = -1;
  int num_broken_in_a_row_ = 0;
  int64_t broken_at_step_ = -1;
};

}  // namespace colossus
