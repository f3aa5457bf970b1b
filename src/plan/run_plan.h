// The run that a judged layout makes on a cluster.
#pragma once

#include "plan/run_history.h"
#include "plan/search.h"

namespace colossus {

// Its ranks, state and microbatches, the share of a step that more data ranks do not shorten, and what its data ranks
// do on every pool. `pieces`: of the layout, whatever the cluster.
Result<RunPlan> run_plan_of(const PlanQuestion& question, const Calibration& calibration, const JudgedLayout& judged,
                            const RankPieces& pieces);

}  // namespace colossus
