// What the machines of a run tell each other through the store: each reports how its ranks are, and the one that leads
// says which machine does what. Texts of lines; whoever reads one checks all of it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/key_value_store.h"
#include "train/recovery/fleet.h"
#include "train/recovery/membership.h"

namespace colossus {

// A part of `store`: key k is its key prefix/k.
std::unique_ptr<KeyValueStore> part_of_store(KeyValueStore& store, std::string prefix);

// Keys.
inline constexpr const char* kLifeKey = "life";              // of the whole store
inline constexpr const char* kLeaderKey = "leader";          // LeaderRecord; this and the others within a life
inline constexpr const char* kAssignmentKey = "assignment";  // Assignment
std::string machine_key(int machine);                        // the name of the machine with this number
std::string report_key(int machine);                         // MachineReport

// From a start of the run until it has finished, was saved or has given up; then the next start begins another one.
// Machines that come while a life lasts join it.
struct LifeRecord {
  int64_t count = 0;
  std::string launch = "-";  // of the scheduler's job; "-": started by hand
  bool over = false;

  std::string prefix() const { return "life-" + std::to_string(count); }
};
std::string print_life_record(const LifeRecord& life);
Result<LifeRecord> parse_life_record(const std::string& text);

// One rank's process.
struct RankRecord {
  int64_t process = -1;     // the generation of the fleet in which it was started; -1: there is none
  Heartbeat heartbeat;      // the last one
  int64_t broken_in = 0;    // the membership in which it lost its peers; 0: none
  int64_t finished_in = 0;  // the membership in which it finished the run; 0: it has not
  bool ended = false;
  int code = 0, signal = 0;
  std::string words;                 // why it is broken, or has ended
  std::vector<int64_t> wrong_ranks;  // of the membership broken_in: see Broken

  friend bool operator==(const RankRecord&, const RankRecord&) = default;
};

struct MachineReport {
  std::string incarnation;  // another one whenever the machine comes without ranks and is ready for some
  int64_t beat = 0;
  bool stop_requested = false;
  std::vector<RankRecord> ranks;  // by their place on the machine
};
std::string print_report(const MachineReport& report);
Result<MachineReport> parse_report(const std::string& text);

enum class RunPhase {
  kRunning,
  kSaving,    // ranks shall save and end
  kFinished,  // all ranks have done the last step
  kSaved,     // all ranks have ended; `reason` says if they could not save
  kGivenUp,   // `reason` says why
};

// What the run is from now on, and all that a leader needs to know of those before it.
struct Assignment {
  int64_t term = 0;
  int64_t generation = 0;  // of the fleet; that of the membership is one more
  RunPhase phase = RunPhase::kRunning;
  std::string reason;
  FleetShape shape;
  int64_t data = 1, shard = 1;       // of the mesh
  std::vector<int> machine_of_slot;  // -1: vacant
  struct MachineRecord {
    std::string name;
    std::string incarnation;  // "": never heard
    MachineState state = MachineState::kOutOfOrder;
    int num_faults = 0;
  };
  std::vector<MachineRecord> machines;
  RangeMap<int64_t> processes;  // by rank
  // When ranks were started again, in seconds before this was written.
  std::map<int, std::vector<double>> restarts;
  std::map<int, double> replaced;  // their machines, because of them
  int num_fruitless = 0;
  int64_t best_step = -1;

  int num_ranks() const { return static_cast<int>(machine_of_slot.size()) * shape.ranks_per_machine; }
  std::optional<int> slot_of(int machine) const;
  // Nothing while slots are vacant.
  std::optional<Membership> membership() const;
};
std::string print_assignment(const Assignment& assignment);
Result<Assignment> parse_assignment(const std::string& text);

// The name of a worker in its membership.
std::string worker_name(int machine, int local_rank, int64_t process);

}  // namespace colossus
