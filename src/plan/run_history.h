// A run of many days on a cluster, played many times in virtual time with faults drawn at random and the decisions of
// the real system (train/recovery/fleet_simulation.h): how much of the time is useful, where the rest goes, what it
// takes of energy and money.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "plan/cluster.h"
#include "plan/spread.h"
#include "train/recovery/fleet_simulation.h"

namespace colossus {

// What is known of the run; what the layout's step costs comes from plan/step_time.h.
struct RunPlan {
  double days = 90;
  std::optional<double> steps;  // of step_seconds: the run ends when so many are trained, and at `days` at the latest
  int64_t gpus_per_data_rank = 8;  // of one copy of the model
  int64_t data_ranks = 0;          // on day 0; 0: as many as the pools of day 0 hold beside their spares
  double step_seconds = 10;        // of the run of day 0, were all GPUs of speed 1
  int64_t microbatches = 0;        // of a step, all data ranks together; 0: work that can be cut at will
  double fixed_share = 0;          // of step_seconds, what fewer microbatches do not make shorter: bubble, update
  std::vector<double> pool_speed;  // of a data rank on each pool, over that of step_seconds; empty: 1

  double state_gb_per_gpu = 0;     // parameters and optimizer's state that one GPU keeps
  std::optional<double> state_gb;  // of one copy of the model; none: as its GPUs keep, each its own part
  bool peer_copies = true;         // of that, in another machine's memory, after each step
  std::optional<double> checkpoint_every_seconds;  // none: checkpoint_interval()
  std::optional<double> checkpoint_stall_seconds;  // none: the copy into the host's memory
  double min_share = 0.75;                         // of the data ranks of day 0; with less the run waits

  int64_t num_runs = 100;  // that are played
  uint64_t seed = 0;
};

// From one day on which machines join to the next.
struct GrowthPhase {
  double from_day = 0;
  int64_t gpus = 0;        // there
  int64_t data_ranks = 0;  // of the whole run
  double whole_rate = 1;   // of that run in which nothing is missing, over that of day 0 at speed 1
  double even_rate = 1;    // were work cut at will and nothing fixed: speed by speed, what was added
  Spread days, useful;     // useful: share of it
  Spread steps;            // of step_seconds
  Spread joined_hours;     // from the delivery until the run goes on with the new machines
};

struct RunHistory {
  Spread days;                 // that the runs took
  int64_t num_unfinished = 0;  // runs that had not done RunPlan::steps by the last day
  // Shares of all time, as FleetOutcome's.
  Spread useful, detecting, waiting, starting, redone, checkpoints, maintenance, slow, missing, stopped;
  Spread work_days;  // trained, in days of the whole run of day 0 without loss
  Spread steps;      // of step_seconds
  Spread interruptions_per_day;
  std::vector<std::pair<std::string, Spread>> interruptions_per_day_by_cause;  // as failures.components, then groups
  Spread mean_hours_between_interruptions;                                     // of training, not of the calendar
  Spread stops;                                                                // that wanted a person

  std::vector<GrowthPhase> phases;

  double gpu_hours = 0;  // of all GPUs from the day they are there, in the mean
  Spread megawatt_hours;
  std::optional<Spread> usd_rent;   // power included
  std::optional<Spread> usd_owned;  // power included

  double checkpoint_every_seconds = 0, checkpoint_stall_seconds = 0;  // as they were played
  int64_t data_ranks = 0;                                             // of day 0
  std::vector<FleetOutcome> outcomes;                                 // of the runs, in order
};

// Seconds until one copy of the state is in the shared store, written by `gpus` GPUs, each a part; until it is read and
// all copies are there again; until each GPU's state is in the memory of its host.
double checkpoint_write_seconds(const ClusterConfig& cluster, const RunPlan& plan, int64_t gpus);
double checkpoint_load_seconds(const ClusterConfig& cluster, const RunPlan& plan, int64_t gpus);
double checkpoint_stall_seconds(const ClusterConfig& cluster, const RunPlan& plan);

// The interval that loses least where a checkpoint stalls training for `stall` seconds and faults come every `mtbf`
// seconds, sqrt(2 · stall · mtbf) (Young, CACM 1974), and at least `write` seconds.
double checkpoint_interval(double stall, double mtbf, double write);

// The same for every number of threads. Fails for a plan that does not fit on the cluster.
Result<RunHistory> play_runs(const ClusterConfig& cluster, const RunPlan& plan, ThreadPool& threads);

// What runs that were played take of energy and money on a cluster that differs from theirs in power and prices alone.
Result<RunHistory> price_runs(const ClusterConfig& cluster, const RunPlan& plan, RunHistory played);

}  // namespace colossus
