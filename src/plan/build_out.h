// How long a cluster takes to build, played many times: racks are delivered, placed and connected, cabled, joined to
// arrays, and their nodes tested under load. Nodes that fail are repaired and tested again, and some fail early in
// their lives, at a rate that falls with age. The machine is there for N GPUs when so many work at once; the first step
// comes first_step_hours later. All figures are those of [build_out] of the cluster's file, and most of them
// assumptions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "plan/cluster.h"
#include "plan/spread.h"

namespace colossus {

// Who is not done by then never is.
inline constexpr double kMaxBuildOutDays = 3650;

struct BuildOutPlan {
  std::vector<int64_t> gpus;  // that are to train; empty: all but the spares of the pools
  int num_runs = 100;
  uint64_t seed = 0;
};

struct BuildOutTarget {
  int64_t gpus = 0;
  Spread days;               // from the decision until the first step; kMaxBuildOutDays: never
  Spread floor_days;         // from the first rack on the floor
  double share_reached = 0;  // of the runs
};

struct BuildOut {
  std::vector<BuildOutTarget> targets;
  int64_t racks = 0, arrays = 0, nodes = 0;
  // From the first rack on the floor until the last was delivered, placed, cabled, and its array up.
  Spread delivered_days, installed_days, cabled_days, arrays_days;
  Spread repairs;         // of nodes, until the last target
  Spread early_failures;  // among them
};

// The same for every number of threads.
Result<BuildOut> play_build_out(const ClusterConfig& cluster, const BuildOutPlan& plan, ThreadPool& threads);

// GPUs of all pools but their spares.
int64_t trainable_gpus(const ClusterConfig& cluster);

// What a rate alone takes for the whole cluster, were everything else done at once.
struct BuildOutBound {
  std::string what;  // "delivering racks"
  double days = 0;
  std::string figures;  // "1563 racks at 28 a day"
};
std::vector<BuildOutBound> build_out_bounds(const ClusterConfig& cluster);  // what takes longest first

// What one figure alone would have to be for `gpus` to train within `floor_days` of the first rack, in half of the
// runs.
struct BuildOutNeed {
  std::string field;  // of [build_out]; "racks_per_day and crews": all of these, times the value
  double now = 0;
  std::optional<double> needed;  // none: not even the best end of its assumed range will do
};
Result<std::vector<BuildOutNeed>> what_must_be_true(const ClusterConfig& cluster, int64_t gpus, double floor_days,
                                                    const BuildOutPlan& plan, ThreadPool& threads);

}  // namespace colossus
