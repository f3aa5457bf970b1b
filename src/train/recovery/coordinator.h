// What the machine that leads does: from the reports of all machines to what the run shall be. Knows no store and no
// clock; whoever runs it reads and writes (train/recovery/supervisor.h).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "train/recovery/decision.h"
#include "train/recovery/run_records.h"

namespace colossus {

struct CoordinatorOptions {
  RecoveryPolicy policy;
  FleetShape shape;
  MeshConfig mesh;                               // of the whole run
  std::function<void(const std::string&)> note;  // what happened and what is done about it, a line each
};

// So many ranks along data and shard as there are now: shards as in the run while they divide them, else all ranks are
// shards.
MeshConfig mesh_of(const MeshConfig& run, int64_t num_ranks);

class Coordinator {
 public:
  // `reports` by machine, nothing for those that have not come; names likewise. At least shape.num_slots() have. The
  // first of them fill the slots, the others are spares, now or when they come.
  Coordinator(CoordinatorOptions options, const std::vector<std::string>& names,
              const std::vector<std::optional<MachineReport>>& reports, double now);
  // Goes on where another one was. What it had not written down is found out again.
  Coordinator(CoordinatorOptions options, const Assignment& assignment, double now);

  // Of one machine, as often as it is read.
  void observe(int machine, const std::string& name, const MachineReport& report, double now);
  // Nobody was listened to for a while: silence begins now.
  void listen_anew(double now) { take_office(fleet_, now); }
  // What the run is from now on, if that is something else than before.
  std::optional<Assignment> decide(const Lease& lease, double now);
  // As it is now, to be written by the holder of this lease.
  Assignment assignment(const Lease& lease, double now) const;

  int num_machines() const { return static_cast<int>(machines_.size()); }
  // That were given up and have not come back.
  std::vector<std::string> machines_out_of_order() const;

 private:
  struct Seen {
    MachineReport report;
    double seen_at = -1;  // a beat; -1: none yet
    bool was_in_run = false;
  };

  void observe_rank(int machine, int local_rank, const RankRecord& record, double now);
  const RankRecord* record_of(int rank) const;
  void hear_of_wrong_numbers();
  void tell_of_recovery(double now);
  void note_faults(const Decision& decision, double now);
  bool meet_again_when_broken(double now);
  bool all_finished() const;
  bool begin_saving(double now);
  // Whether the phase changed.
  bool watch_saving(double now);
  bool end(RunPhase phase, std::string reason);
  void remember_slots();
  std::string last_words() const;

  const CoordinatorOptions options_;
  Fleet fleet_;
  std::vector<Seen> machines_;
  RunPhase phase_ = RunPhase::kRunning;
  std::string reason_;

  double fault_at_ = -1;  // heard of first; -1: none that is not overcome
  int64_t fault_after_step_ = -1;
  double stop_at_ = -1;  // asked for; -1: not
  int64_t progress_of_stop_ = -1;
  double progress_of_stop_at_ = 0;
  double broken_since_ = -1;
  int num_broken_in_a_row_ = 0;
  int64_t broken_at_step_ = -1;
};

}  // namespace colossus
