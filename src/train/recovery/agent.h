// The workers of one machine: starts them, watches their processes, ends them, as the run's assignment says.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/child_process.h"
#include "train/recovery/leader_election.h"
#include "train/recovery/run_records.h"

namespace colossus {

struct AgentOptions {
  std::vector<std::string> command;  // of a worker; it learns who it is from the variables below
  std::vector<std::pair<std::string, std::string>> environment;  // of all workers
  std::string faults;                                            // for tests: see faults_of_process
  int signal_when_parent_ends = 0;                               // to the workers, if this process ends before them
  std::function<void(const std::string&)> note;                  // what happened, a line each
};

// In the environment of a worker: its name in Membership::workers.
inline constexpr const char* kWorkerVariable = "COLOSSUS_WORKER";
inline constexpr const char* kPlaceVariable = "COLOSSUS_PLACE";  // of the rank on its machine, from 0

class Agent {
 public:
  // `store`: of this machine alone; its workers read and write it.
  Agent(AgentOptions options, KeyValueStore& store, int ranks_on_machine)
      : options_(std::move(options)), store_(store), workers_(static_cast<size_t>(ranks_on_machine)) {
    report_.ranks.resize(workers_.size());
  }

  // Looks at the workers. True when something happened that others wait for.
  bool look();
  const std::vector<RankRecord>& records() const { return report_.ranks; }

  // Does what the assignment wants of machine `self`; each once and in order, see Fence.
  Status obey(const Assignment& assignment, int self);
  // Assignments up to this generation are of another agent of this machine.
  void ignore_up_to(int64_t term, int64_t generation) { fence_ = {.term = term, .generation = generation}; }
  // The store was written at this time (monotonic_seconds): workers stop by themselves some time after the last one.
  Status renew_lease(double since);

  bool all_ended() const;
  bool has_workers() const;
  void end_all();  // at once

 private:
  struct Worker {
    std::string name;
    int rank = 0;  // for messages
    ChildProcess process;
  };

  Status start(int place, int rank, int machine, int64_t process);
  void look_at(int place);

  const AgentOptions options_;
  KeyValueStore& store_;
  std::vector<std::optional<Worker>> workers_;  // by place on the machine
  MachineReport report_;
  std::map<int, int64_t> num_started_;  // by rank
  Fence fence_{.term = 0, .generation = -1};
  std::optional<Membership> members_;
  bool asked_to_save_ = false, said_finished_ = false;
};

}  // namespace colossus
