#include "plan/build_out.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace colossus {
namespace {

using testing::HasSubstr;

ClusterConfig load(const std::string& name) {
  return load_config<ClusterConfig>(local_files(),
                                    std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/" + name + ".toml")
      .value();
}

// 64 racks of eight nodes in arrays of eight; nothing fails, nothing is late.
ClusterConfig ideal() {
  ClusterConfig cluster = load("colossus-100k-h100");
  cluster.pools[0].nodes = 512;
  cluster.pools[0].spare_nodes = 0;
  BuildOutSpec& spec = cluster.build_out;
  spec = {
      .site_days = 10, .racks_per_day = 8, .delivery_spread = 0, .install_crews = 1000, .install_hours_per_rack = 12};
  spec.cable_crews = 1000;
  spec.cable_hours_per_rack = 6;
  spec.array_hours = 24;
  spec.burn_in_hours = 48;
  spec.node_pass_rate = spec.retest_pass_rate = 1;
  spec.early_failures_per_node = 0;
  spec.first_step_hours = 12;
  return cluster;
}

BuildOut play(const ClusterConfig& cluster, const BuildOutPlan& plan = {.num_runs = 8}, int num_threads = 2) {
  ThreadPool threads(num_threads, false);
  Result<BuildOut> built = play_build_out(cluster, plan, threads);
  EXPECT_TRUE(built.ok()) << built.status().message();
  return built.ok() ? *built : BuildOut();
}

TEST(BuildOut, IsASumWhereNothingFails) {
  const BuildOut built = play(ideal());
  EXPECT_EQ(built.racks, 64);
  EXPECT_EQ(built.arrays, 8);
  EXPECT_EQ(built.nodes, 512);
  // The last of eight racks of day 7, and then one thing after the other.
  const double delivered = 7 + 7.0 / 8;
  EXPECT_NEAR(built.delivered_days.mean, delivered, 1e-9);
  EXPECT_NEAR(built.installed_days.mean, delivered + 0.5, 1e-9);
  EXPECT_NEAR(built.cabled_days.mean, delivered + 0.75, 1e-9);
  EXPECT_NEAR(built.arrays_days.mean, delivered + 1.75, 1e-9);
  ASSERT_EQ(built.targets.size(), 1U);
  EXPECT_EQ(built.targets[0].gpus, 4096);
  EXPECT_NEAR(built.targets[0].floor_days.high, delivered + 1.75 + 2 + 0.5, 1e-9);
  EXPECT_NEAR(built.targets[0].days.low, 10 + delivered + 1.75 + 2 + 0.5, 1e-9);
  EXPECT_EQ(built.targets[0].share_reached, 1);
  EXPECT_EQ(built.repairs.high, 0);
}

TEST(BuildOut, WaitsForItsCrews) {
  ClusterConfig cluster = ideal();
  cluster.build_out.racks_per_day = 64;
  cluster.build_out.install_crews = 4;
  // 16 rounds of half a day: the last rack comes before its crew.
  EXPECT_NEAR(play(cluster).installed_days.mean, 8, 0.5);
  cluster.build_out.install_crews = 1000;
  cluster.build_out.cable_crews = 2;
  EXPECT_NEAR(play(cluster).cabled_days.mean, 0.5 + 64 * 0.25 / 2, 0.5);
}

TEST(BuildOut, AFewGpusTrainBeforeAll) {
  const BuildOut built = play(ideal(), {.gpus = {512, 2048, 4096}, .num_runs = 1});
  ASSERT_EQ(built.targets.size(), 3U);
  // An array is there every day.
  EXPECT_NEAR(built.targets[1].floor_days.mean - built.targets[0].floor_days.mean, 3, 1e-9);
  EXPECT_NEAR(built.targets[2].floor_days.mean - built.targets[1].floor_days.mean, 4, 1e-9);
}

TEST(BuildOut, FailedNodesAreRepairedAndTestedAgain) {
  ClusterConfig cluster = ideal();
  cluster.build_out.node_pass_rate = 0.8;
  cluster.build_out.retest_pass_rate = 0.5;
  cluster.build_out.repair_crews = 1000;
  const BuildOut built = play(cluster, {.num_runs = 40});
  // A fifth of the nodes, each until it passes: 0.2 / 0.5.
  EXPECT_NEAR(built.repairs.mean, 512 * 0.4, 0.1 * 512 * 0.4);
  EXPECT_EQ(built.early_failures.high, 0);
  EXPECT_GT(built.targets[0].floor_days.low, play(ideal()).targets[0].floor_days.high + 2);
  cluster.build_out.repair_crews = 1;
  cluster.build_out.repair_hours = 12;
  // One crew: half a day for each.
  EXPECT_GT(play(cluster).targets[0].floor_days.mean, 512 * 0.4 / 2);
}

// F · (t / T)^k failures of a node by age t: most of them at once.
TEST(BuildOut, EarlyFailuresFallWithAge) {
  ClusterConfig cluster = ideal();
  cluster.build_out.early_failures_per_node = 0.5;
  cluster.build_out.early_days = 16;
  cluster.build_out.weibull_shape = 0.5;
  cluster.build_out.parts_days = 0.01;
  cluster.build_out.repair_hours = cluster.build_out.burn_in_hours = 0.01;
  cluster.build_out.racks_per_day = 64;
  cluster.build_out.repair_crews = 10'000;
  const double ready = play(cluster, {.gpus = {8}, .num_runs = 1}).targets[0].floor_days.mean;
  // All at once are never good for long, so what is counted is what the first day brings until they are.
  const BuildOut built = play(cluster, {.gpus = {4096}, .num_runs = 20});
  EXPECT_GT(built.early_failures.mean, 5);
  EXPECT_GT(built.targets[0].floor_days.mean, ready);
  cluster.build_out.weibull_shape = 1;
  EXPECT_LT(play(cluster, {.gpus = {4096}, .num_runs = 20}).early_failures.mean, built.early_failures.mean);
}

TEST(BuildOut, TheSameForEveryNumberOfThreads) {
  const ClusterConfig cluster = load("dgx-h100-pod");
  const BuildOut one = play(cluster, {.num_runs = 9}, 1), three = play(cluster, {.num_runs = 9}, 3);
  EXPECT_EQ(one.targets[0].floor_days.mean, three.targets[0].floor_days.mean);
  EXPECT_EQ(one.targets[0].floor_days.low, three.targets[0].floor_days.low);
  EXPECT_LT(one.targets[0].floor_days.low, one.targets[0].floor_days.high);
  EXPECT_NE(play(cluster, {.num_runs = 9, .seed = 1}).targets[0].floor_days.mean, one.targets[0].floor_days.mean);
}

TEST(BuildOut, SaysNeverWhereItIsNever) {
  ClusterConfig cluster = ideal();
  cluster.build_out.racks_per_day = 0.01;
  const BuildOut built = play(cluster);
  EXPECT_EQ(built.targets[0].share_reached, 0);
  EXPECT_EQ(built.targets[0].floor_days.median, kMaxBuildOutDays);
}

// Nothing is built faster than its slowest rate, and what is said to bind is what helps.
TEST(BuildOut, TheSlowestRateBinds) {
  ClusterConfig cluster = load("colossus-100k-h100");
  const std::vector<BuildOutBound> bounds = build_out_bounds(cluster);
  EXPECT_EQ(bounds[0].what, "delivering racks");
  EXPECT_NEAR(bounds[0].days, 1563.0 / 28, 1e-9);
  EXPECT_GT(play(cluster).targets[0].floor_days.median, bounds[0].days);
  for (size_t i = 1; i < bounds.size(); ++i) EXPECT_GE(bounds[i - 1].days, bounds[i].days);
  cluster.build_out.cable_crews = 10;
  EXPECT_EQ(build_out_bounds(cluster)[0].what, "cabling them");
  EXPECT_NEAR(build_out_bounds(cluster)[0].days, 1563 * 16 / 24.0 / 10, 1e-9);
  EXPECT_GT(play(cluster).targets[0].floor_days.median, build_out_bounds(cluster)[0].days);
}

// What it says is enough is enough, and a little less is not.
TEST(BuildOut, FindsWhatMustBeTrue) {
  const ClusterConfig cluster = load("colossus-100k-h100");
  ThreadPool threads(2, false);
  const BuildOutPlan plan{.num_runs = 5};
  constexpr int64_t kGpus = 98'304;
  constexpr double kDays = 50;
  const std::vector<BuildOutNeed> needs = what_must_be_true(cluster, kGpus, kDays, plan, threads).value();
  EXPECT_EQ(needs[0].field, "racks_per_day and crews");
  const auto days_with = [&](double racks_per_day) {
    ClusterConfig other = cluster;
    other.build_out.racks_per_day = racks_per_day;
    return play(other, {.gpus = {kGpus}, .num_runs = 5}).targets[0].floor_days.median;
  };
  bool found = false;
  for (const BuildOutNeed& need : needs) {
    if (need.field != "racks_per_day") continue;
    found = true;
    EXPECT_EQ(need.now, cluster.build_out.racks_per_day);
    ASSERT_TRUE(need.needed.has_value());
    EXPECT_LE(days_with(*need.needed), kDays);
    EXPECT_GT(days_with(0.97 * *need.needed), kDays);
  }
  EXPECT_TRUE(found);
  // Nineteen days for all of them are beyond what any one figure of the assumed ranges can do.
  for (const BuildOutNeed& need : what_must_be_true(cluster, kGpus, 1, plan, threads).value()) {
    EXPECT_FALSE(need.needed.has_value()) << need.field;
  }
}

TEST(BuildOut, RefusesNonsense) {
  ThreadPool threads(1, false);
  const ClusterConfig cluster = load("dgx-h100-pod");
  EXPECT_FALSE(play_build_out(cluster, {.num_runs = 0}, threads).ok());
  EXPECT_FALSE(play_build_out(cluster, {.gpus = {8, 4}}, threads).ok());
  EXPECT_THAT(play_build_out(cluster, {.gpus = {5000}}, threads).status().message(), HasSubstr("which has 1016"));
}

}  // namespace
}  // namespace colossus
