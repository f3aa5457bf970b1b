#include "train/recovery/fleet_simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "io/file_system.h"

namespace colossus {
namespace {

// Repair times of a trace of faults, in days; none where it is not there.
std::vector<double> trace_repair_days() {
  const std::string path = COLOSSUS_SOURCE_DIR "/../shared/data/gpu/infinitehbd/fault_trace.json";
  if (!std::filesystem::exists(path)) return {};
  const auto trace = nlohmann::json::parse(read_file(local_files(), path).value());
  std::map<std::string, std::vector<double>> began;
  std::vector<double> days;
  for (const auto& event : trace) {
    std::vector<double>& open = began[event["node_id"].get<std::string>()];
    const double time = event["event_time"].get<double>();
    if (event["event_type"] == "fault_start") {
      open.push_back(time);
    } else if (!open.empty()) {
      days.push_back(time - open.front());
      open.erase(open.begin());
    }
  }
  return days;
}

// 100,000 ranks on 12,500 machines, 3 % of spares.
FleetSimulationOptions large_run() {
  FleetSimulationOptions options{
      .shape = {.ranks_per_machine = 8, .ranks_per_data_rank = 80, .data_ranks = 1250, .num_spares = 375}};
  options.policy.min_data_ranks = 1000;
  return options;
}

double sum_of_parts(const FleetOutcome& outcome) {
  return outcome.useful + outcome.redone + outcome.recovering + outcome.checkpoints + outcome.slow + outcome.missing +
         outcome.stopped;
}

TEST(FleetSimulation, RunsAHundredThousandRanks) {
  FleetSimulationOptions options = large_run();
  const std::vector<double> days = trace_repair_days();
  if (!days.empty()) options.repair_days = days;
  options.days = 0.25;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_EQ(outcome.stop_reason, "");
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
  EXPECT_GT(outcome.num_faults, 3);
  EXPECT_GT(outcome.num_decisions, 0);
  EXPECT_GT(outcome.useful, 0.7);
  EXPECT_LT(outcome.useful, 1);
  EXPECT_TRUE(simulate_fleet(options).value() == outcome);
  options.seed = 1;
  EXPECT_FALSE(simulate_fleet(options).value() == outcome);
}

// With 50 faults a day each should cost: half a checkpoint's distance, the time to notice, the time to start.
TEST(FleetSimulation, CostsWhatFaultsCost) {
  FleetSimulationOptions options = large_run();
  options.days = 30;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_EQ(outcome.stop_reason, "");
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
  const double expected_faults = 12'500 * options.faults_per_machine_day * options.days;
  EXPECT_NEAR(static_cast<double>(outcome.num_faults), expected_faults, 0.1 * expected_faults);
  const double seconds = options.days * 86400, faults = static_cast<double>(outcome.num_faults);
  // Slow machines lose nothing, and what fails while nothing runs neither.
  const double losing = faults * (1 - options.share_of_slow) * (1 - outcome.recovering);
  EXPECT_NEAR(outcome.redone, losing * options.checkpoint_every_seconds / 2 / seconds, 0.1 * outcome.redone);
  EXPECT_GT(outcome.recovering, faults * 0.9 * options.restart_seconds / seconds);
  EXPECT_LT(outcome.recovering, faults * 1.3 * (options.restart_seconds + 10) / seconds);
  EXPECT_GT(outcome.num_replacements, outcome.num_faults / 2);
  EXPECT_GT(outcome.num_drains, 0);
  EXPECT_GT(outcome.num_restarts, 0);
}

TEST(FleetSimulation, ShrinksAndGrowsWithoutSpares) {
  FleetSimulationOptions options = large_run();
  options.shape.num_spares = 0;
  options.days = 10;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_EQ(outcome.stop_reason, "");
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
  EXPECT_GT(outcome.num_shrinks, 0);
  EXPECT_GT(outcome.num_grows, 0);
  EXPECT_GT(outcome.missing, 0);
}

TEST(FleetSimulation, WithoutFaultsOnlyPaysForCheckpoints) {
  FleetSimulationOptions options = large_run();
  options.faults_per_machine_day = 0;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_NEAR(outcome.recovering, options.restart_seconds / 86400, 1e-9);
  EXPECT_NEAR(outcome.useful, (1 - outcome.recovering) * 180 / 185, 1e-9);
  EXPECT_EQ(outcome.num_decisions, 0);
}

TEST(FleetSimulation, StopsWhenMachinesAreTooFew) {
  FleetSimulationOptions options{.shape = {.data_ranks = 4}};
  options.policy.min_data_ranks = 4;
  options.faults_per_machine_day = 1;
  options.share_of_exits = options.share_of_hangs = options.share_of_slow = 0;
  options.repair_days = {100};
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_THAT(outcome.stop_reason, testing::HasSubstr("1 machines are missing for 4 data ranks"));
  EXPECT_GT(outcome.stopped, 0);
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
}

TEST(FleetSimulation, RefusesNonsense) {
  FleetSimulationOptions options = large_run();
  options.shape.ranks_per_data_rank = 12;
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.repair_days.clear();
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.days = 0;
  EXPECT_FALSE(simulate_fleet(options).ok());
}

}  // namespace
}  // namespace colossus
