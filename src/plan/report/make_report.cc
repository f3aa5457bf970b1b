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
                    .too_large = found.too_large};
  const JudgedLayout& best = report.layouts.front();
  for (const JudgedLayout& judged : report.layouts)
    report.bases.push_back(basis_of(asked.question, judged.layout, asked.checked));
  report.cost = cost_of_tokens(asked.question, best, asked.tokens);
  report.sources = sources_of(asked.question.cluster);
  ASSIGN_OR_RETURN(report.timeline,
                   timeline_of(asked.question, asked.calibration, best.layout, {.first_of_each_work = true}));
  ASSIGN_OR_RETURN(report.run_plan, run_plan_of(asked.question, asked.calibration, best, kReportDays, kReportRuns));
  ThreadPool threads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  auto history = play_runs(asked.question.cluster, report.run_plan, threads);
  // A layout that is no run of whole nodes has a step all the same.
  if (!history.ok()) {
    report.no_history = history.status().message();
    return report;
  }
  report.history = std::move(*history);
  RunPlan short_plan = report.run_plan;
  short_plan.num_runs = kEffectRuns;
  ASSIGN_OR_RETURN(report.effects,
                   play_assumption_effects(asked.question, asked.calibration, best, short_plan, asked.tokens, threads));
  return report;
}

}  // namespace colossus
