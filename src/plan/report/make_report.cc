#include <algorithm>
#include <filesystem>
#include <thread>

#include "plan/report/report.h"

namespace colossus {

Result<PlanReport> make_report(const ReportQuestion& asked, const SearchResult& found) {
  PlanReport report{.question = asked.question,
                    .model_name = std::filesystem::path(asked.model_file).stem().string(),
                    .tokens = asked.tokens,
                    .layouts = found.best,
                    .legal = found.legal,
                    .too_large = found.too_large,
                    .too_slow = found.too_slow};
  const JudgedLayout& best = report.layouts.front();
  for (const JudgedLayout& judged : report.layouts)
    report.bases.push_back(basis_of(asked.question, judged.layout, asked.checked));
  report.cost = cost_of_tokens(asked.question, best, asked.tokens);
  report.sources = sources_of(asked.question.cluster);
  ASSIGN_OR_RETURN(report.timeline,
                   timeline_of(asked.question, asked.calibration, best.layout, {.first_of_each_work = true}));
  ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(asked.question.model, best.layout, asked.question.stack));
  ASSIGN_OR_RETURN(report.run_plan, run_plan_of(asked.question, asked.calibration, best, pieces));
  report.run_plan.days = kReportDays;
  report.run_plan.num_runs = kReportRuns;
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  auto history = play_runs(asked.question.cluster, report.run_plan, threads);
  // A layout that is no run of whole nodes has a step all the same.
  if (!history.ok()) {
    report.no_history = history.status().message();
    return report;
  }
  report.history = std::move(*history);
  const auto plan_for = [&](const ClusterConfig& cluster) -> Result<RunPlan> {
    PlanQuestion other = asked.question;
    other.cluster = cluster;
    ASSIGN_OR_RETURN(const JudgedLayout judged, judge(other, asked.calibration, best.layout, pieces));
    ASSIGN_OR_RETURN(RunPlan plan, run_plan_of(other, asked.calibration, judged, pieces));
    plan.days = kReportDays;
    plan.num_runs = kSensitivityRuns;
    return plan;
  };
  ASSIGN_OR_RETURN(report.sensitivity, run_sensitivity(asked.question.cluster, plan_for, threads));
  return report;
}

}  // namespace colossus
