// One machine's part in keeping a run alive: its own workers (Agent), what it tells the others of them, and, while it
// leads, what all machines do (Coordinator). A run on one machine is led by that one.
//
// All machines run the same. They meet in the run's store; the workers of a machine speak with its supervisor through
// the machine's own.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/recovery/agent.h"
#include "train/recovery/coordinator.h"
#include "train/recovery/leader_election.h"
#include "train/recovery/run_entry.h"

namespace colossus {

struct SupervisorOptions {
  AgentOptions agent;
  RecoveryPolicy policy;
  FleetShape shape;
  MeshConfig mesh;  // of the whole run
  std::string machine = "this machine";
  std::string launch = "-";     // see EntryOptions
  int preferred_machine = -1;   // likewise
  double report_seconds = 0.1;  // between reports, when nothing happens
  double store_seconds = 0.02;  // between looks into the store
  ElectionPolicy election;
  // While this machine leads: those that were given up and have not come back, when they change.
  std::function<void(const std::vector<std::string>&)> on_given_up = [](const auto&) {};
};

// What workers need to know of the life they are started in.
inline constexpr const char* kLifeVariable = "COLOSSUS_LIFE";

class Supervisor {
 public:
  // `run_store`: of all machines. `machine_store`: of this one; may be the same where it is the only one.
  Supervisor(SupervisorOptions options, KeyValueStore& run_store, KeyValueStore& machine_store)
      : options_(std::move(options)), run_store_(run_store), machine_store_(machine_store) {}

  // Until all workers have finished (ok), the run cannot go on (why, and what a person should do), or it was stopped
  // (kInterrupted, once the workers have saved). No worker of this machine outlives the call.
  Status run(const std::atomic<bool>& stop_requested);

 private:
  Status watch(const std::atomic<bool>& stop_requested);
  // One look into the store, and what follows from it. Errors of a store that does not answer are no errors here.
  Status look_into_store(bool urgent, double now);
  Status tell(double now);
  Status elect(double now);
  Status lead(double now);
  Status begin_when_all_are_there(double now);
  Status write(const Assignment& assignment);
  Status hear(double now);
  Result<std::optional<MachineReport>> report_of(int machine);
  Result<std::string> name_of(int machine);
  CoordinatorOptions coordinator_options() const;
  Status check_same_shape() const;
  void come_back_after_absence(double now);
  // Once the run is over; else nothing.
  std::optional<Status> outcome(double now);
  bool several_machines() const { return options_.shape.num_machines() > 1; }
  void note(const std::string& text) const { options_.agent.note(text); }

  const SupervisorOptions options_;
  KeyValueStore& run_store_;
  KeyValueStore& machine_store_;
  std::unique_ptr<KeyValueStore> life_store_;
  Entry entry_;
  std::unique_ptr<Agent> agent_;
  MachineReport report_;                    // of this machine
  std::optional<std::string> report_text_;  // as last written
  double told_at_ = -1e300;                 // a report that arrived was begun
  double asked_at_ = -1e300;
  double absent_at_ = -1e300;  // for so long that others may have taken its place

  std::optional<Assignment> assignment_;  // as last read
  std::optional<std::string> assignment_text_;
  bool has_read_ = false;
  double over_since_ = -1;

  Election election_;
  std::unique_ptr<Coordinator> coordinator_;  // while this machine leads
  std::vector<std::string> given_up_;
  double led_at_ = -1;  // this process, last
  double forming_since_ = -1, waiting_said_at_ = 0;
  double stop_since_ = -1;
};

}  // namespace colossus
