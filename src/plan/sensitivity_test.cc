#include "plan/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

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
  ASSERT_TRUE(rows["recovery.start_seconds"].high.has_value());
  EXPECT_EQ(rows["recovery.start_seconds"].high->useful, slowed.useful.mean);
  EXPECT_LT(slowed.useful.mean, sensitivity.base.useful);
  EXPECT_GT(rows["recovery.start_seconds"].low->useful, sensitivity.base.useful);
  // Power costs money and no time.
  dear.prices.usd_per_kwh = rows["prices.usd_per_kwh"].assumed.high;
  const RunHistory priced = play_runs(dear, kPlan, threads).value();
  ASSERT_TRUE(rows["prices.usd_per_kwh"].high.has_value());
  EXPECT_EQ(rows["prices.usd_per_kwh"].high->useful, sensitivity.base.useful);
  EXPECT_NEAR(*rows["prices.usd_per_kwh"].high->usd_per_step, priced.usd_owned->mean / priced.steps.mean, 1e-9);
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
  EXPECT_THAT(sensitivity.no_matter, Contains(HasSubstr("usd_per_gpu_hour")));
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
  EXPECT_TRUE(row.low.has_value());
  EXPECT_FALSE(row.high.has_value());
  EXPECT_THAT(row.why_not, HasSubstr("no room for 40 data ranks"));
}

}  // namespace
}  // namespace colossus
