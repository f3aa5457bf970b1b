// What an answer about whole runs hangs on: every assumed figure of a cluster is set to the ends of its range, one at a
// time, and the runs are played or priced again with the same draws.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plan/run_history.h"

namespace colossus {

struct RunAnswer {
  double useful = 0;                   // share of the time
  std::optional<double> usd_per_step;  // of what is owned, else of rent; none without prices
};

struct SensitivityRow {
  AssumedNumber assumed;
  std::optional<RunAnswer> low, high;  // none: the run is impossible there
  std::string why_not;                 // one of them is
  // The larger of the two changes of what a step costs, as a share; without prices of what a useful hour costs. An end
  // at which the run is impossible changes all.
  double change = 0;
};

struct Sensitivity {
  RunAnswer base;
  std::vector<SensitivityRow> rows;    // those that change something, the largest change first
  std::vector<std::string> no_matter;  // figures that change nothing of this
};

// The run on another cluster, where its network or its GPUs are assumed otherwise: another step.
using PlanFor = std::function<Result<RunPlan>(const ClusterConfig& cluster)>;

// Assumptions of [build_out] are left out: they end before the run begins. `plan_for` is asked for those of the network
// and the pools; for all others the plan is that of `cluster`.
Result<Sensitivity> run_sensitivity(const ClusterConfig& cluster, const PlanFor& plan_for, ThreadPool& threads);

}  // namespace colossus
