// What the answer for a layout hangs on: every assumption of the cluster at both ends of its range, the layout as it
// is.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "plan/explain.h"
#include "plan/run_history.h"

namespace colossus {

// The run that a judged layout makes: its ranks, state and microbatches, and what its data ranks do on every pool.
Result<RunPlan> run_plan_of(const PlanQuestion& question, const Calibration& calibration, const JudgedLayout& judged,
                            double days, int64_t num_runs);

// Of a run on so many tokens.
struct RunFigures {
  double step_seconds = 0;
  double useful = 0;          // share of the time, with failures
  double days = 0;            // with failures
  std::optional<double> usd;  // owned, or else rented; power at full load all the time
};

struct AssumptionEffect {
  AssumedNumber assumed;
  // At the range's low and at its high end; none where that end is refused (`refused` says why).
  std::array<std::optional<RunFigures>, 2> at;
  std::array<std::string, 2> refused;
};

struct AssumptionEffects {
  RunFigures as_assumed;
  // By which the mean useful share of so few plays is off by chance, at most, in nineteen of twenty cases.
  double useful_noise = 0;
  std::vector<AssumptionEffect> rows;    // of assumptions that change any of the figures
  std::vector<AssumedNumber> no_effect;  // the others: what takes part in none of the figures
};

// Faults are drawn from the same numbers at every point, so that differences are of the assumption. `plan`: of
// run_plan_of, with as many plays as there is time for: one look plays it once for every end of a range that a run of
// many days depends on.
Result<AssumptionEffects> play_assumption_effects(const PlanQuestion& question, const Calibration& calibration,
                                                  const JudgedLayout& judged, const RunPlan& plan, double tokens,
                                                  ThreadPool& threads);

}  // namespace colossus
