#include "plan/report/assumption_effects.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/config.h"

namespace colossus {
namespace {

// Of a cluster, what a step's time is found from.
std::string text_for_step(const ClusterConfig& cluster) {
  std::string text = print_config(cluster.network);
  for (const PoolSpec& pool : cluster.pools) text += print_config(pool.gpu);
  return text;
}

// What a run of many days is played from, beside the step.
std::string text_for_runs(const ClusterConfig& cluster) {
  std::string text = print_config(cluster.failures) + print_config(cluster.recovery) + print_config(cluster.storage);
  for (MaintenanceWindow window : cluster.maintenance) text += print_config(window);
  for (const PoolSpec& pool : cluster.pools)
    text += fmt::format("{} {} {} {} {}\n", pool.nodes, pool.spare_nodes, pool.gpus_per_node, pool.arrives_day,
                        pool.failure_scale);
  return text;
}

class Player {
 public:
  Player(const Calibration& calibration, const JudgedLayout& judged, const RankPieces& pieces, const RunPlan& plan,
         double tokens, ThreadPool& threads)
      : calibration_(calibration), judged_(judged), pieces_(pieces), plan_(plan), tokens_(tokens), threads_(threads) {}

  Status play_base(const PlanQuestion& question) {
    base_step_text_ = text_for_step(question.cluster);
    base_runs_text_ = text_for_runs(question.cluster);
    base_judged_ = judged_;
    ASSIGN_OR_RETURN(const RunHistory history, play_runs(question.cluster, plan_, threads_));
    base_useful_ = history.useful.mean;
    double squares = 0;
    for (const FleetOutcome& outcome : history.outcomes) squares += std::pow(outcome.useful - base_useful_, 2);
    const auto runs = static_cast<double>(history.outcomes.size());
    // Of the difference of two means.
    noise_ = runs < 2 ? 0 : 1.96 * std::sqrt(2 * squares / (runs - 1) / runs);
    return ok_status();
  }

  Result<RunFigures> figures(const PlanQuestion& question) {
    JudgedLayout judged = base_judged_;
    if (text_for_step(question.cluster) != base_step_text_) {
      ASSIGN_OR_RETURN(judged, judge(question, calibration_, judged_.layout, pieces_));
    }
    RunFigures figures{.step_seconds = judged.time.seconds, .useful = base_useful_};
    if (text_for_runs(question.cluster) != base_runs_text_) {
      ASSIGN_OR_RETURN(const RunHistory history, play_runs(question.cluster, plan_, threads_));
      figures.useful = history.useful.mean;
    }
    // Where nothing is useful nothing is ever done; the report says so by the share itself.
    const double useful = std::max(figures.useful, 1e-6);
    const RunCost cost = cost_of_tokens(question, judged, tokens_ / useful);
    figures.days = cost.days;
    figures.usd = cost.usd_owned ? cost.usd_owned : cost.usd_rent;
    return figures;
  }

  double noise() const { return noise_; }

 private:
  const Calibration& calibration_;
  const JudgedLayout& judged_;
  const RankPieces& pieces_;
  const RunPlan& plan_;
  const double tokens_;
  ThreadPool& threads_;
  std::string base_step_text_, base_runs_text_;
  JudgedLayout base_judged_;
  double base_useful_ = 0, noise_ = 0;
};

bool same(const RunFigures& a, const RunFigures& b) {
  return a.step_seconds == b.step_seconds && a.useful == b.useful && a.usd == b.usd;
}

}  // namespace

Result<RunPlan> run_plan_of(const PlanQuestion& question, const Calibration& calibration, const JudgedLayout& judged,
                            double days, int64_t num_runs) {
  const MeshConfig& mesh = judged.layout.mesh;
  RunPlan plan{.days = days,
               .gpus_per_data_rank = mesh.tensor * mesh.context * mesh.pipeline,
               .data_ranks = mesh.data * mesh.shard,
               .step_seconds = judged.time.seconds,
               .microbatches = judged.layout.num_microbatches() * mesh.data * mesh.shard,
               .state_gb_per_gpu = (judged.memory.optimizer + judged.memory.weights) * 1e-9,
               .num_runs = num_runs};
  ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(question.model, judged.layout));
  for (size_t pool = 0; pool < question.cluster.pools.size(); ++pool) {
    PlanQuestion other = question;
    other.pool = pool;
    ASSIGN_OR_RETURN(const JudgedLayout there, judge(other, calibration, judged.layout, pieces));
    plan.pool_speed.push_back(judged.time.seconds / there.time.seconds);
  }
  return plan;
}

Result<AssumptionEffects> play_assumption_effects(const PlanQuestion& question, const Calibration& calibration,
                                                  const JudgedLayout& judged, const RunPlan& plan, double tokens,
                                                  ThreadPool& threads) {
  ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(question.model, judged.layout));
  Player player(calibration, judged, pieces, plan, tokens, threads);
  RETURN_IF_ERROR(player.play_base(question));
  AssumptionEffects result;
  result.useful_noise = player.noise();
  ASSIGN_OR_RETURN(result.as_assumed, player.figures(question));
  for (const AssumedNumber& assumed : assumptions_of(question.cluster)) {
    AssumptionEffect row{.assumed = assumed};
    bool moves = false;
    for (size_t end = 0; end < 2; ++end) {
      PlanQuestion other = question;
      auto cluster = with_number(question.cluster, assumed.path, end == 0 ? assumed.low : assumed.high);
      Status status = cluster.status();
      if (status.ok()) {
        other.cluster = std::move(*cluster);
        auto figures = player.figures(other);
        status = figures.status();
        if (figures.ok()) row.at[end] = *figures;
      }
      if (!status.ok()) row.refused[end] = status.message();
      moves = moves || !row.at[end] || !same(*row.at[end], result.as_assumed);
    }
    if (moves)
      result.rows.push_back(std::move(row));
    else
      result.no_effect.push_back(assumed);
  }
  return result;
}

}  // namespace colossus
