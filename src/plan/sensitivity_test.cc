#include "plan/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "plan/run_plan.h"
#include "plan/small_question.h"

namespace colossus {
namespace {

using testing::Contains;
using testing::HasSubstr;

ClusterConfig small_cluster() {
  const std::string path = std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/dgx-h100-pod.toml";
  ClusterConfig cluster = load_config<ClusterConfig>(local_files(), path).value();
  cluster.failures.components = {{.name = "gpu", .per_1000_node_days = 40}};
  cluster.failures.groups.clear();
  cluster.failures.evidence = {};
  return cluster;
}

Sensitivity judge(const ClusterConfig& cluster, const RunPlan& plan) {
  ThreadPool threads(2, false);
  Result<Sensitivity> result = run_sensitivity(
      cluster, [&](const ClusterConfig&) { return plan; }, threads);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *result : Sensitivity();
}

std::map<std::string, SensitivityRow> by_name(const Sensitivity& sensitivity) {
  std::map<std::string, SensitivityRow> rows;
  for (const SensitivityRow& row : sensitivity.rows) rows[row.assumed.path] = row;
  return rows;
}

const RunPlan kPlan{.days = 20, .gpus_per_data_rank = 16, .state_gb_per_gpu = 20, .num_runs = 6};

TEST(Sensitivity, AsIfEachFigureHadBeenChangedByHand) {
  const ClusterConfig cluster = small_cluster();
  const Sensitivity sensitivity = judge(cluster, kPlan);
  auto rows = by_name(sensitivity);
  ThreadPool threads(2, false);
  ClusterConfig slow = cluster, dear = cluster;
  slow.recovery.start_seconds = rows["recovery.start_seconds"].assumed.high;
  const RunHistory slowed = play_runs(slow, kPlan, threads).value();
  ASSERT_TRUE(rows["recovery.start_seconds"].at[1].has_value());
  EXPECT_EQ(rows["recovery.start_seconds"].at[1]->useful, slowed.useful.mean);
  EXPECT_LT(slowed.useful.mean, sensitivity.base.useful);
  EXPECT_GT(rows["recovery.start_seconds"].at[0]->useful, sensitivity.base.useful);
  // Power costs money and no time.
  dear.prices.usd_per_kwh = rows["prices.usd_per_kwh"].assumed.high;
  const RunHistory priced = play_runs(dear, kPlan, threads).value();
  ASSERT_TRUE(rows["prices.usd_per_kwh"].at[1].has_value());
  EXPECT_EQ(rows["prices.usd_per_kwh"].at[1]->useful, sensitivity.base.useful);
  EXPECT_NEAR(*rows["prices.usd_per_kwh"].at[1]->usd_per_step, priced.usd_owned->mean / priced.steps.mean, 1e-9);
}

TEST(Sensitivity, TheLargestChangeComesFirst) {
  const Sensitivity sensitivity = judge(small_cluster(), kPlan);
  ASSERT_GT(sensitivity.rows.size(), 5U);
  for (size_t i = 1; i < sensitivity.rows.size(); ++i)
    EXPECT_GE(sensitivity.rows[i - 1].change, sensitivity.rows[i].change);
  for (const SensitivityRow& row : sensitivity.rows) {
    EXPECT_FALSE(row.assumed.path.starts_with("build_out."));
    EXPECT_GT(row.change, 0);
  }
  // Rent is not what is owned costs.
  EXPECT_THAT(sensitivity.no_matter, Contains(testing::Field(&AssumedNumber::path, HasSubstr("usd_per_gpu_hour"))));
}

// At an end where the run has no room it is said why, and counts as all.
TEST(Sensitivity, SaysWhereTheRunIsImpossible) {
  ClusterConfig cluster = small_cluster();
  cluster.evidence = {};
  cluster.pools[0].evidence.assumptions = {
      {.field = "spare_nodes", .low = 0, .high = static_cast<double>(cluster.pools[0].nodes - 1), .why = "x"}};
  RunPlan plan = kPlan;
  plan.data_ranks = 40;
  const Sensitivity sensitivity = judge(cluster, plan);
  const SensitivityRow& row = sensitivity.rows.front();
  EXPECT_THAT(row.assumed.path, HasSubstr("spare_nodes"));
  EXPECT_TRUE(row.at[0].has_value());
  EXPECT_FALSE(row.at[1].has_value());
  EXPECT_THAT(row.refused[1], HasSubstr("no room for 40 data ranks"));
}

// Of a judged layout: the network moves the step, failures the share of the time, prices the cost.
TEST(Sensitivity, EveryAssumptionMovesWhatItShould) {
  PlanQuestion question = small_question(Family::kLlama);
  question.cluster = without_assumptions(question.cluster);  // those of its parts are out of the way
  question.cluster.evidence.assumptions = {{"network.domain_gb_per_second", 100, 900, "x"},
                                           {"recovery.start_seconds", 10, 3600, "x"},
                                           {"prices.usd_per_kwh", 0.04, 0.4, "x"},
                                           {"racks.gpus_per_rack", 16, 64, "x"},
                                           {"power.load", 0.5, 7, "x"}};  // a share: its high end is refused
  // Two machines in 60 days: something is to happen to them.
  for (FailureComponent& component : question.cluster.failures.components) component.per_1000_node_days *= 200;
  const Layout layout = *read_layout(question, "x", std::vector<std::string>{"tensor=4", "shard=4"});
  const RankPieces pieces = *write_rank_pieces(question.model, layout, question.stack);
  const auto plan_for = [&](const ClusterConfig& cluster) -> Result<RunPlan> {
    PlanQuestion other = question;
    other.cluster = cluster;
    ASSIGN_OR_RETURN(const JudgedLayout judged, judge(other, ready_calibration(), layout, pieces));
    ASSIGN_OR_RETURN(RunPlan plan, run_plan_of(other, ready_calibration(), judged, pieces));
    plan.days = 60;
    plan.num_runs = 8;
    return plan;
  };
  ThreadPool threads(2, false);
  const auto sensitivity = run_sensitivity(question.cluster, plan_for, threads);
  ASSERT_TRUE(sensitivity.ok()) << sensitivity.status().message();
  const RunAnswer& base = sensitivity->base;
  EXPECT_EQ(base.step_seconds, judge(question, ready_calibration(), layout)->time.seconds);
  EXPECT_GT(sensitivity->useful_noise, 0);
  auto rows = by_name(*sensitivity);
  ASSERT_EQ(rows.size(), 4u);
  const SensitivityRow& network = rows["network.domain_gb_per_second"];
  EXPECT_GT(network.at[0]->step_seconds, base.step_seconds * 1.01);
  EXPECT_LT(network.at[1]->step_seconds, base.step_seconds);
  const SensitivityRow& start = rows["recovery.start_seconds"];
  EXPECT_GT(start.at[0]->useful, start.at[1]->useful);
  EXPECT_EQ(start.at[0]->step_seconds, base.step_seconds);
  EXPECT_GT(*start.at[1]->usd_per_step, *base.usd_per_step);
  const SensitivityRow& price = rows["prices.usd_per_kwh"];
  EXPECT_LT(*price.at[0]->usd_per_step, *price.at[1]->usd_per_step);
  EXPECT_EQ(price.at[1]->useful, base.useful);
  EXPECT_TRUE(rows["power.load"].at[0]);
  EXPECT_FALSE(rows["power.load"].at[1]);
  EXPECT_NE(rows["power.load"].refused[1], "");
  ASSERT_EQ(sensitivity->no_matter.size(), 1u);
  EXPECT_EQ(sensitivity->no_matter[0].path, "racks.gpus_per_rack");
}

}  // namespace
}  // namespace colossus
