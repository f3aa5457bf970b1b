#include "plan/run_history.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "io/csv.h"

namespace colossus {
namespace {

using testing::HasSubstr;

const std::string kSource = COLOSSUS_SOURCE_DIR;

ClusterConfig load(const std::string& name) {
  return load_config<ClusterConfig>(local_files(), kSource + "/configs/clusters/" + name + ".toml").value();
}

// Published figures by their name.
std::map<std::string, double> published() {
  const std::string path = kSource + "/configs/validation/reliability.csv";
  const CsvTable table = CsvTable::parse(read_file(local_files(), path).value(), path).value();
  std::map<std::string, double> figures;
  for (size_t row = 0; row < table.num_rows(); ++row) {
    EXPECT_FALSE(table.at(row, "source").empty());
    figures[table.at(row, "name")] = std::stod(table.at(row, "value"));
  }
  return figures;
}

RunHistory play(const ClusterConfig& cluster, const RunPlan& plan, int num_threads = 2) {
  ThreadPool threads(num_threads, false);
  Result<RunHistory> history = play_runs(cluster, plan, threads);
  EXPECT_TRUE(history.ok()) << history.status().message();
  return history.ok() ? *history : RunHistory();
}

double sum_of_parts(const RunHistory& history) {
  double sum = 0;
  for (const Spread* part :
       {&history.useful, &history.detecting, &history.waiting, &history.starting, &history.redone, &history.checkpoints,
        &history.maintenance, &history.slow, &history.missing, &history.stopped}) {
    EXPECT_LE(part->low, part->median);
    EXPECT_LE(part->median, part->high);
    sum += part->mean;
  }
  return sum;
}

// A pool of 104 nodes of which 4 are spare, with one cause that takes machines.
ClusterConfig small_cluster(double per_1000_node_days) {
  ClusterConfig cluster = load("dgx-h100-pod");
  cluster.pools[0].nodes = 104;
  cluster.pools[0].spare_nodes = 4;
  cluster.failures.groups.clear();
  cluster.failures.components = {{.name = "gpu", .per_1000_node_days = per_1000_node_days}};
  return cluster;
}

TEST(RunHistory, TheSameForEveryNumberOfThreads) {
  const ClusterConfig cluster = small_cluster(20);
  RunPlan plan{.days = 20, .gpus_per_data_rank = 16, .num_runs = 7};
  const RunHistory one = play(cluster, plan, 1), three = play(cluster, plan, 3);
  ASSERT_EQ(one.outcomes.size(), 7U);
  EXPECT_TRUE(one.outcomes == three.outcomes);
  EXPECT_EQ(one.megawatt_hours.mean, three.megawatt_hours.mean);
  EXPECT_FALSE(one.outcomes[0] == one.outcomes[1]);
  // A run depends on the seed and its own number only.
  plan.num_runs = 3;
  EXPECT_TRUE(play(cluster, plan).outcomes[2] == one.outcomes[2]);
  plan.seed = 1;
  EXPECT_FALSE(play(cluster, plan).outcomes[2] == one.outcomes[2]);
}

TEST(RunHistory, WithoutFaultsEverythingIsKnown) {
  const ClusterConfig cluster = small_cluster(0);
  const RunPlan plan{.days = 10,
                     .gpus_per_data_rank = 8,
                     .step_seconds = 5,
                     .checkpoint_every_seconds = 1000,
                     .checkpoint_stall_seconds = 10,
                     .num_runs = 2};
  const RunHistory history = play(cluster, plan);
  EXPECT_EQ(history.data_ranks, 100);
  EXPECT_NEAR(history.starting.mean, 180 / 864'000.0, 1e-9);
  const double useful = (1 - history.starting.mean) / 1.01;
  EXPECT_NEAR(history.useful.mean, useful, 1e-9);
  EXPECT_NEAR(history.work_days.mean, 10 * useful, 1e-9);
  EXPECT_NEAR(history.steps.mean, 10 * useful * 86400 / 5, 1e-3);
  EXPECT_EQ(history.interruptions_per_day.high, 0);
  EXPECT_NEAR(history.gpu_hours, 240 * 832, 1e-6);
  const PoolSpec& pool = cluster.pools[0];
  const double busy = 800 * 240 * (1 - history.starting.mean), idle = 832 * 240 - busy;
  const double energy = (busy * busy_watts_per_gpu(cluster, pool) + idle * idle_watts_per_gpu(cluster, pool)) / 1e6;
  EXPECT_NEAR(history.megawatt_hours.mean, energy, 1e-6 * energy);
  EXPECT_NEAR(history.usd_rent->mean, 240 * 832 * 2.5, 1e-3);
  EXPECT_NEAR(history.usd_owned->mean, 240 * *hourly_price(cluster).owned + 1000 * energy * 0.078, 1);
}

TEST(RunHistory, TimeAddsUpAndMoreFaultsCostMore) {
  RunPlan plan{.days = 30, .gpus_per_data_rank = 16, .state_gb_per_gpu = 20, .num_runs = 10};
  const RunHistory calm = play(small_cluster(2), plan), wild = play(small_cluster(40), plan);
  EXPECT_NEAR(sum_of_parts(calm), 1, 1e-9);
  EXPECT_NEAR(sum_of_parts(wild), 1, 1e-9);
  EXPECT_GT(calm.useful.low, wild.useful.high);
  EXPECT_LT(calm.megawatt_hours.mean / calm.work_days.mean, wild.megawatt_hours.mean / wild.work_days.mean);
  EXPECT_NEAR(calm.interruptions_per_day.mean, 0.2, 0.1);
}

TEST(RunHistory, ChecksThePlan) {
  ThreadPool threads(1, false);
  ClusterConfig cluster = small_cluster(1);
  const auto refused = [&](const RunPlan& plan, const std::string& why) {
    const Result<RunHistory> history = play_runs(cluster, plan, threads);
    ASSERT_FALSE(history.ok());
    EXPECT_THAT(history.status().message(), HasSubstr(why));
  };
  refused({.days = 0}, "days (0)");
  refused({.data_ranks = 101}, "holds 100");
  refused({.gpus_per_data_rank = 1600}, "no room");
  refused({.pool_speed = {1, 2}}, "2 speeds for 1 pools");
  refused({.num_runs = 0}, "runs to play (0)");
  cluster.pools.push_back(cluster.pools[0]);
  cluster.pools[1].gpus_per_node = 4;
  refused({}, "equally many ranks");
}

TEST(RunHistory, IntervalIsYoungs) {
  EXPECT_NEAR(checkpoint_interval(2, 3600, 1), 120, 1e-9);
  EXPECT_EQ(checkpoint_interval(2, 3600, 500), 500);
  const Spread spread = spread_of({4, 1, 3, 2, 5});
  EXPECT_EQ(spread.mean, 3);
  EXPECT_EQ(spread.median, 3);
  EXPECT_NEAR(spread.low, 1.2, 1e-12);
  EXPECT_NEAR(spread.high, 4.8, 1e-12);
}

// What docs/simulator.md shows beside the published figure: in the report of --gtest_output=json:FILE.
void record(const std::string& name, const Spread& played, double factor = 1) {
  testing::Test::RecordProperty(
      name, fmt::format("{:.4g} ({:.4g} to {:.4g})", factor * played.mean, factor * played.low, factor * played.high));
}

// The published projections are those of 6.5 failures in 1,000 node-days; what is played has to keep to them while
// it also detects, repairs and starts again.
TEST(ReliabilityValidation, JobsOfRsc1FailAsOftenAsPublished) {
  std::map<std::string, double> figures = published();
  const auto mean_hours = [&](int64_t nodes, double software) {
    ClusterConfig cluster = load("a100-25k");
    cluster.pools[0].nodes = nodes * 11 / 10;
    cluster.pools[0].spare_nodes = cluster.pools[0].nodes - nodes;
    cluster.recovery.start_seconds = 60;
    cluster.failures.components = {{.name = "hardware", .per_1000_node_days = figures["rsc-1-hardware"]},
                                   {.name = "software", .per_1000_node_days = software, .effect = FaultKind::kExit}};
    return play(cluster, {.days = nodes > 10'000 ? 6.0 : 40.0, .num_runs = 8}).mean_hours_between_interruptions;
  };
  const Spread large = mean_hours(2048, 0);
  record("rsc-1-job-16384", large);
  EXPECT_NEAR(large.mean, figures["rsc-1-job-16384"], 0.05 * large.mean);
  const Spread largest = mean_hours(16384, 0);
  record("rsc-1-job-131072", largest);
  EXPECT_NEAR(largest.mean, figures["rsc-1-job-131072"], 0.05 * largest.mean);
  // Jobs of 1,024 failed of everything, three times as often as their hardware alone.
  const Spread job = mean_hours(128, 17.2);
  record("rsc-1-job-1024", job);
  EXPECT_LT(job.low, figures["rsc-1-job-1024"]);
  EXPECT_GT(job.high, figures["rsc-1-job-1024"]);
  EXPECT_NEAR(job.mean, figures["rsc-1-job-1024"], 0.1 * job.mean);
}

// 54 days of 16,384 H100. The rates are those of the table, so the count must come out; that more than nine tenths of
// the time is useful is what the model of recovery says.
TEST(ReliabilityValidation, Llama3IsInterruptedAsOften) {
  std::map<std::string, double> figures = published();
  ClusterConfig cluster = load("llama-3-16k");
  cluster.failures.components.pop_back();  // stragglers were not counted
  cluster.maintenance = {{.name = "planned", .every_days = 54 / 47.5, .hours = 0.05}};
  const RunPlan plan{.days = 54,
                     .gpus_per_data_rank = 128,
                     .data_ranks = 128,
                     .peer_copies = false,
                     .checkpoint_every_seconds = 600,
                     .checkpoint_stall_seconds = 2,
                     .num_runs = 40};
  const RunHistory history = play(cluster, plan);
  record("llama-3-interruptions", history.interruptions_per_day, 54);
  record("llama-3-useful", history.useful);
  EXPECT_LT(54 * history.interruptions_per_day.low, figures["llama-3-interruptions"]);
  EXPECT_GT(54 * history.interruptions_per_day.high, figures["llama-3-interruptions"]);
  EXPECT_NEAR(54 * history.interruptions_per_day.mean, figures["llama-3-interruptions"], 25);
  EXPECT_GT(history.useful.low, figures["llama-3-effective"]);
  EXPECT_LT(history.useful.high, 0.99);
}

// As many nodes away at once as were in StepFun's cluster: rate times mean repair.
TEST(ReliabilityValidation, NodesAreAwayAsLongAsStepFuns) {
  std::map<std::string, double> figures = published();
  RepairSpec repair;
  const FaultCause cause{
      .name = "node", .per_day = figures["stepfun-faults"] / 1000, .repair_days = repair.quantiles()};
  FaultDraws draws({cause}, {{.machines = 400}}, 0, 0);
  constexpr int kDraws = 100'000;
  double days = 0;
  for (int i = 0; i < kDraws; ++i) days += draws.repair_seconds(cause) / 86400 / kDraws;
  EXPECT_NEAR(days, figures["stepfun-repair-mean"], 0.08 * days);
  const double percent_away = 100 * cause.per_day * days;
  record("stepfun-unavailable", {percent_away, percent_away, percent_away, percent_away});
  EXPECT_NEAR(percent_away, figures["stepfun-unavailable"], 0.2);
  EXPECT_NEAR(repair.quantiles()[20], figures["stepfun-repair-median"], 0.01);
}

// A run that is to train so many steps says in how many days, and what it takes is that of these days.
TEST(RunHistory, EndsWithItsSteps) {
  const ClusterConfig cluster = small_cluster(20);
  RunPlan plan{.days = 100, .steps = 5 * 86400 / 10.0, .gpus_per_data_rank = 16, .num_runs = 6};
  const RunHistory history = play(cluster, plan);
  EXPECT_NEAR(history.steps.mean, *plan.steps, 1e-3 * *plan.steps);
  EXPECT_GT(history.days.low, 5);
  EXPECT_LT(history.days.high, 6);
  EXPECT_NEAR(history.gpu_hours, 24 * 832 * history.days.mean, 1e-6 * history.gpu_hours);
  EXPECT_EQ(history.num_unfinished, 0);
  plan.days = 2;
  const RunHistory cut = play(cluster, plan);
  EXPECT_EQ(cut.num_unfinished, 6);
  EXPECT_EQ(cut.days.low, 2);
}

// Prices and power change nothing that was played.
TEST(RunHistory, IsPricedAgain) {
  const ClusterConfig cluster = small_cluster(20);
  const RunPlan plan{.days = 20, .gpus_per_data_rank = 16, .num_runs = 3};
  const RunHistory history = play(cluster, plan);
  ClusterConfig dear = cluster;
  dear.prices.usd_per_kwh *= 2;
  dear.power.pue *= 1.1;
  const RunHistory again = play(dear, plan), priced = price_runs(dear, plan, history).value();
  EXPECT_TRUE(priced.outcomes == history.outcomes);
  EXPECT_EQ(priced.usd_owned->mean, again.usd_owned->mean);
  EXPECT_GT(priced.usd_owned->mean, history.usd_owned->mean);
  EXPECT_EQ(priced.megawatt_hours.high, again.megawatt_hours.high);
  ClusterConfig other = cluster;
  other.pools.push_back(other.pools[0]);
  EXPECT_FALSE(price_runs(other, {.days = 20, .gpus_per_data_rank = 16, .num_runs = 3}, history).ok());
}

TEST(RunHistory, PlaysColossusAsItGrows) {
  const ClusterConfig cluster = load("colossus-growth");
  const RunPlan plan{.days = 100, .gpus_per_data_rank = 128, .state_gb_per_gpu = 30, .num_runs = 2};
  const RunHistory history = play(cluster, plan);
  EXPECT_EQ(history.data_ranks, (12500 - 212) / 16);
  EXPECT_NEAR(sum_of_parts(history), 1, 1e-9);
  EXPECT_NEAR(history.gpu_hours, 24 * (100 * 100e3 + 8 * 100e3), 1);
  // Eight of the hundred days with twice the machines.
  EXPECT_NEAR(history.work_days.mean / history.useful.mean, 108, 1.5);
  for (const FleetOutcome& outcome : history.outcomes) EXPECT_GE(outcome.num_grows, 1);
  ASSERT_EQ(history.phases.size(), 2U);
  EXPECT_EQ(history.phases[0].gpus, 100'000);
  EXPECT_EQ(history.phases[1].gpus, 200'000);
  EXPECT_NEAR(history.phases[1].whole_rate, 2, 0.01);
  EXPECT_NEAR(history.phases[0].steps.mean + history.phases[1].steps.mean, history.steps.mean,
              1e-6 * history.steps.mean);
  EXPECT_GT(history.phases[1].joined_hours.low, 0.05);
  EXPECT_LT(history.phases[1].joined_hours.low, 0.2);
}

}  // namespace
}  // namespace colossus
