// One page about the best layout of a model on a cluster: HTML that needs no network, with its pictures within.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/basis.h"
#include "plan/explain.h"
#include "plan/run_plan.h"
#include "plan/sensitivity.h"

namespace colossus {

struct PlanReport {
  PlanQuestion question;
  std::string model_name;
  double tokens = 0;                  // of the whole run
  std::vector<JudgedLayout> layouts;  // the best first; at least one
  std::vector<Basis> bases;           // of these
  int64_t legal = 0, too_large = 0;   // of the search (SearchResult); 0: the layout was given
  int64_t too_slow = 0;
  RunCost cost;  // of the best, while nothing fails
  std::vector<StageTimeline> timeline;
  RunPlan run_plan;
  std::optional<RunHistory> history;
  std::string no_history;  // why there is none
  std::optional<Sensitivity> sensitivity;
  std::vector<SourceVisitor::Note> sources;
};

struct ReportQuestion {
  const PlanQuestion& question;
  std::string model_file;
  double tokens = 0;
  const Calibration& calibration;
  const std::vector<CheckedRun>& checked;
};
// Plays what the page shows beside the layouts: a step's timeline, runs of kReportDays with failures, and what
// they hang on. Some seconds for 100,000 GPUs.
inline constexpr double kReportDays = 30;
inline constexpr int64_t kReportRuns = 50;
Result<PlanReport> make_report(const ReportQuestion& asked, const SearchResult& found);

// The page: a function of the report alone. All text of files is escaped.
std::string html_report(const PlanReport& report);

}  // namespace colossus
