#include "plan/sensitivity.h"

#include <algorithm>
#include <cmath>

namespace colossus {
namespace {

constexpr double kNothing = 1e-9;

RunAnswer answer_of(const RunHistory& history) {
  RunAnswer answer{.useful = history.useful.mean, .usd_per_step = std::nullopt};
  const std::optional<Spread>& dollars = history.usd_owned ? history.usd_owned : history.usd_rent;
  if (dollars && history.steps.mean > 0) answer.usd_per_step = dollars->mean / history.steps.mean;
  return answer;
}

double change(const RunAnswer& answer, const RunAnswer& base) {
  if (answer.usd_per_step && base.usd_per_step) return std::abs(*answer.usd_per_step / *base.usd_per_step - 1);
  return answer.useful > 0 ? std::abs(base.useful / answer.useful - 1) : 1;
}

// Of energy and money alone: what happens is the same.
bool only_prices(const std::string& path) {
  return path.starts_with("power.") || path.starts_with("prices.") || path.find("usd_") != std::string::npos ||
         path.ends_with("_watts");
}

bool changes_step(const std::string& path) { return path.starts_with("network.") || path.starts_with("pools["); }

}  // namespace

Result<Sensitivity> run_sensitivity(const ClusterConfig& cluster, const PlanFor& plan_for, ThreadPool& threads) {
  ASSIGN_OR_RETURN(const RunPlan plan, plan_for(cluster));
  ASSIGN_OR_RETURN(const RunHistory base, play_runs(cluster, plan, threads));
  Sensitivity result{.base = answer_of(base), .rows = {}, .no_matter = {}};
  const auto answer_with = [&](const std::string& path, double value) -> Result<RunAnswer> {
    ASSIGN_OR_RETURN(const ClusterConfig other, with_number(cluster, path, value));
    if (only_prices(path)) {
      ASSIGN_OR_RETURN(const RunHistory priced, price_runs(other, plan, base));
      return answer_of(priced);
    }
    RunPlan plan_there = plan;
    if (changes_step(path)) {
      ASSIGN_OR_RETURN(plan_there, plan_for(other));
    }
    ASSIGN_OR_RETURN(const RunHistory played, play_runs(other, plan_there, threads));
    return answer_of(played);
  };
  for (const AssumedNumber& assumed : assumptions_of(cluster)) {
    if (assumed.path.starts_with("build_out.")) continue;
    SensitivityRow row{.assumed = assumed, .low = {}, .high = {}, .why_not = {}};
    for (const auto& [end, value] : {std::pair{&row.low, assumed.low}, std::pair{&row.high, assumed.high}}) {
      const Result<RunAnswer> answer = answer_with(assumed.path, value);
      if (answer.ok()) {
        *end = *answer;
      } else {
        row.why_not = answer.status().message();
      }
      row.change = std::max(row.change, answer.ok() ? change(*answer, result.base) : 1);
    }
    if (row.change < kNothing) {
      result.no_matter.push_back(assumed.path);
    } else {
      result.rows.push_back(std::move(row));
    }
  }
  std::ranges::stable_sort(result.rows, std::greater<>(), &SensitivityRow::change);
  return result;
}

}  // namespace colossus
