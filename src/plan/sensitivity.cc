#include "plan/sensitivity.h"

#include <algorithm>
#include <cmath>

namespace colossus {
namespace {

constexpr double kNothing = 1e-9;

RunAnswer answer_of(const RunPlan& plan, const RunHistory& history) {
  RunAnswer answer{.step_seconds = plan.step_seconds, .useful = history.useful.mean, .usd_per_step = std::nullopt};
  const std::optional<Spread>& dollars = history.usd_owned ? history.usd_owned : history.usd_rent;
  if (dollars && history.steps.mean > 0) answer.usd_per_step = dollars->mean / history.steps.mean;
  return answer;
}

double difference(double a, double b) { return b > 0 ? std::abs(a / b - 1) : a > 0 ? 1 : 0; }

double change(const RunAnswer& answer, const RunAnswer& base) {
  if (answer.usd_per_step && base.usd_per_step) return difference(*answer.usd_per_step, *base.usd_per_step);
  return difference(answer.step_seconds * base.useful, base.step_seconds * answer.useful);
}

bool same(const RunAnswer& answer, const RunAnswer& base) {
  return change(answer, base) < kNothing && difference(answer.useful, base.useful) < kNothing &&
         difference(answer.step_seconds, base.step_seconds) < kNothing;
}

// Of the difference of two means.
double noise_of(const RunHistory& history) {
  const auto runs = static_cast<double>(history.outcomes.size());
  double squares = 0;
  for (const FleetOutcome& outcome : history.outcomes) squares += std::pow(outcome.useful - history.useful.mean, 2);
  return runs < 2 ? 0 : 1.96 * std::sqrt(2 * squares / (runs - 1) / runs);
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
  Sensitivity result{.base = answer_of(plan, base), .useful_noise = noise_of(base), .rows = {}, .no_matter = {}};
  const auto answer_with = [&](const std::string& path, double value) -> Result<RunAnswer> {
    ASSIGN_OR_RETURN(const ClusterConfig other, with_number(cluster, path, value));
    if (only_prices(path)) {
      ASSIGN_OR_RETURN(const RunHistory priced, price_runs(other, plan, base));
      return answer_of(plan, priced);
    }
    RunPlan plan_there = plan;
    if (changes_step(path)) {
      ASSIGN_OR_RETURN(plan_there, plan_for(other));
    }
    ASSIGN_OR_RETURN(const RunHistory played, play_runs(other, plan_there, threads));
    return answer_of(plan_there, played);
  };
  for (const AssumedNumber& assumed : assumptions_of(cluster)) {
    if (assumed.path.starts_with("build_out.")) continue;
    SensitivityRow row{.assumed = assumed, .at = {}, .refused = {}};
    bool matters = false;
    for (size_t end = 0; end < 2; ++end) {
      const Result<RunAnswer> answer = answer_with(assumed.path, end == 0 ? assumed.low : assumed.high);
      if (answer.ok())
        row.at[end] = *answer;
      else
        row.refused[end] = answer.status().message();
      row.change = std::max(row.change, answer.ok() ? change(*answer, result.base) : 1);
      matters = matters || !answer.ok() || !same(*answer, result.base);
    }
    if (matters)
      result.rows.push_back(std::move(row));
    else
      result.no_matter.push_back(assumed);
  }
  std::ranges::stable_sort(result.rows, std::greater<>(), &SensitivityRow::change);
  return result;
}

}  // namespace colossus
