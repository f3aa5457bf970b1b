// What an answer about whole runs hangs on: every assumed figure of a cluster is set to the ends of its range, one at a
// time, and the runs are played or priced again with the same draws.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "plan/run_history.h"

namespace colossus {

struct RunAnswer {
  double step_seconds = 0;
  double useful = 0;                   // share of the time
  std::optional<double> usd_per_step;  // of what is owned, else of rent; none without prices
};

struct SensitivityRow {
  AssumedNumber assumed;
  // At the range's low and at its high end; none: the run is impossible there, and why.
  std::array<std::optional<RunAnswer>, 2> at;
  std::array<std::string, 2> refused;
  // The larger of the two changes of what a step costs, as a share; without prices of the time it takes, with what
  // failures lose. An end at which the run is impossible changes all.
  double change = 0;
};

struct Sensitivity {
  RunAnswer base;
  // By which the mean useful shares of two so few plays differ by chance, at most, in nineteen of twenty cases.
  double useful_noise = 0;
  std::vector<SensitivityRow> rows;      // those that change something, the largest change first
  std::vector<AssumedNumber> no_matter;  // figures that change nothing of this
};

// So many plays of each end of a range tell, for the draws are those of the base.
inline constexpr int64_t kSensitivityRuns = 12;

// The run on another cluster, where its network or its GPUs are assumed otherwise: another step.
using PlanFor = std::function<Result<RunPlan>(const ClusterConfig& cluster)>;

// Assumptions of [build_out] are left out: they end before the run begins. `plan_for` is asked for those of the network
// and the pools; for all others the plan is that of `cluster`.
Result<Sensitivity> run_sensitivity(const ClusterConfig& cluster, const PlanFor& plan_for, ThreadPool& threads);

}  // namespace colossus
