#include "train/recovery/fleet_simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
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

// A fifth of the faults ends a process, a twentieth hangs one, a twentieth makes a machine slow.
std::vector<FaultCause> ordinary_causes(double per_machine_day) {
  return {{.name = "machine", .kind = FaultKind::kMachine, .per_day = 0.7 * per_machine_day},
          {.name = "process", .kind = FaultKind::kExit, .per_day = 0.2 * per_machine_day},
          {.name = "hang", .kind = FaultKind::kHang, .per_day = 0.05 * per_machine_day},
          {.name = "slow", .kind = FaultKind::kSlow, .per_day = 0.05 * per_machine_day}};
}

// 100,000 ranks on 12,500 machines, 3 % of spares.
FleetSimulationOptions large_run() {
  FleetSimulationOptions options;
  options.shape = {.ranks_per_machine = 8, .ranks_per_data_rank = 80, .data_ranks = 1250, .num_spares = 375};
  options.causes = ordinary_causes(4e-3);
  options.policy.min_data_ranks = 1000;
  return options;
}

double sum_of_parts(const FleetOutcome& outcome) {
  return outcome.useful + outcome.redone + outcome.detecting + outcome.waiting + outcome.starting +
         outcome.checkpoints + outcome.maintenance + outcome.slow + outcome.missing + outcome.stopped;
}

double standing(const FleetOutcome& outcome) { return outcome.detecting + outcome.waiting + outcome.starting; }

TEST(FleetSimulation, RunsAHundredThousandRanks) {
  FleetSimulationOptions options = large_run();
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
// With 50 faults a day each should cost: half a checkpoint's distance, the time to notice, the time to start.
TEST(FleetSimulation, CostsWhatFaultsCost) {
  FleetSimulationOptions options = large_run();
  options.days = 30;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_EQ(outcome.stop_reason, "");
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
  const double expected_faults = 12'500 * 4e-3 * options.days;
  EXPECT_NEAR(static_cast<double>(outcome.num_faults), expected_faults, 0.1 * expected_faults);
  const double seconds = options.days * 86400, faults = static_cast<double>(outcome.num_faults);
  // Slow machines lose nothing, and what fails while nothing runs neither.
  const double losing = faults * 0.95 * (1 - standing(outcome));
  EXPECT_NEAR(outcome.redone, losing * options.checkpoint_every_seconds / 2 / seconds, 0.1 * outcome.redone);
  EXPECT_GT(standing(outcome), faults * 0.9 * options.restart_seconds / seconds);
  EXPECT_LT(standing(outcome), faults * 1.3 * (options.restart_seconds + 10) / seconds);
  // Silence takes 5 s to notice, a hang 30, an end a second.
  const double noticing = 0.7 * 5 + 0.05 * 30 + 0.2 * 1;
  EXPECT_NEAR(outcome.detecting, faults * noticing / seconds, 0.35 * outcome.detecting);
  EXPECT_GT(outcome.num_replacements, outcome.num_faults / 2);
  EXPECT_GT(outcome.num_drains, 0);
  EXPECT_GT(outcome.num_restarts, 0);
  // Without growth or mixed speeds what was trained is the useful time.
  EXPECT_NEAR(outcome.work_days, outcome.useful * options.days, 1e-6);
  int64_t by_cause = 0;
  for (size_t i = 0; i < outcome.causes.size(); ++i) {
    by_cause += outcome.causes[i].faults;
    EXPECT_LE(outcome.causes[i].interruptions, outcome.causes[i].faults);
    EXPECT_NEAR(static_cast<double>(outcome.causes[i].faults), options.causes[i].per_day * 12'500 * options.days,
                4 * std::sqrt(static_cast<double>(outcome.causes[i].faults)));
  }
  EXPECT_EQ(by_cause, outcome.num_faults);
  ASSERT_EQ(outcome.kinds.size(), 1U);
  EXPECT_NEAR(outcome.kinds[0].busy_machine_days, 12'500 * options.days * (1 - standing(outcome)),
              1e-3 * 12'500 * options.days);
  EXPECT_NEAR(outcome.kinds[0].busy_machine_days + outcome.kinds[0].idle_machine_days, 12'875 * options.days, 1e-3);
}

TEST(FleetSimulation, PeersSaveWhatCheckpointsLose) {
  FleetSimulationOptions options = large_run();
  options.days = 10;
  options.checkpoint_every_seconds = 1200;
  const FleetOutcome without = simulate_fleet(options).value();
  options.peer_copies = true;
  const FleetOutcome with = simulate_fleet(options).value();
  // Half a step instead of ten minutes, but for neighbours lost together.
  EXPECT_GT(without.redone, 0.2);
  EXPECT_LT(with.redone, 0.05 * without.redone);
  EXPECT_GT(without.num_checkpoint_loads, 100);
  EXPECT_LT(with.num_checkpoint_loads, 5);
  // Racks of eight neighbours: then checkpoints are needed.
  options.causes.push_back({.name = "rack", .per_day = 0.01, .machines = 8});
  const FleetOutcome racks = simulate_fleet(options).value();
  EXPECT_GT(racks.num_checkpoint_loads, 50);
  EXPECT_GT(racks.redone, 3 * with.redone);
}

// A rack takes all its machines at once, and one spare for each.
TEST(FleetSimulation, RacksFallTogether) {
  FleetSimulationOptions options = large_run();
  options.causes = {{.name = "rack", .per_day = 1e-3, .machines = 8, .repair_days = {0.5}}};
  options.days = 30;
  const FleetOutcome outcome = simulate_fleet(options).value();
  const double expected = 12'875.0 / 8 * 1e-3 * options.days;  // one or two of them are all spares
  EXPECT_NEAR(static_cast<double>(outcome.num_faults), expected, 4 * std::sqrt(expected));
  EXPECT_NEAR(static_cast<double>(outcome.num_replacements), 8.0 * outcome.num_faults, 0.1 * outcome.num_replacements);
  options.causes[0].share_hit = 0.25;
  const FleetOutcome quarter = simulate_fleet(options).value();
  EXPECT_LT(quarter.num_replacements, outcome.num_replacements / 3);
  EXPECT_GT(quarter.num_replacements, outcome.num_replacements / 6);
}

// Half as many again from day 10 on, by machines that are twice as fast.
TEST(FleetSimulation, GrowsOnItsDay) {
  FleetSimulationOptions options = large_run();
  options.causes.clear();
  options.days = 20;
  options.checkpoint_seconds = 0;
  options.kinds = {{.machines = 12'500, .data_ranks = 1250},
                   {.machines = 375},
                   {.machines = 6'400, .speed = 2, .arrives_day = 10, .data_ranks = 620}};
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_EQ(outcome.num_grows, 1);
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
  // The 375 old spares are the first to be taken: 38 blocks are as slow as they.
  EXPECT_NEAR(outcome.work_days, 10 + 10 * (1250 + 2 * 620) / 1250.0, 0.5);
  EXPECT_GT(outcome.kinds[2].busy_machine_days, 9.9 * 5'800);
  ASSERT_EQ(outcome.phases.size(), 2U);
  EXPECT_EQ(outcome.phases[1].from_day, 10);
  EXPECT_EQ(outcome.phases[1].days, 10);
  EXPECT_EQ(outcome.phases[0].joined_days, 0);
  const double joined = options.policy.grow_after_seconds + options.restart_seconds;
  EXPECT_NEAR(outcome.phases[1].joined_days * 86400, joined, 30);
  EXPECT_NEAR(outcome.phases[0].work_days + outcome.phases[1].work_days, outcome.work_days, 1e-9);
  EXPECT_DOUBLE_EQ(outcome.phases[1].whole_rate, (1250 + 2 * 620) / 1250.0);
  EXPECT_GT(outcome.phases[1].useful, 0.98);
  options.microbatches = 1250;  // one each: nobody has anything to give away
  EXPECT_LT(simulate_fleet(options).value().work_days, outcome.work_days - 3);
}

// What does not get shorter with fewer microbatches is not divided among the ranks that join.
TEST(FleetSimulation, GrowthDoesNotShortenTheBubble) {
  FleetSimulationOptions options = large_run();
  options.causes.clear();
  options.days = 2;
  options.kinds = {{.machines = 12'500, .data_ranks = 1250},
                   {.machines = 375},
                   {.machines = 12'500, .arrives_day = 1, .data_ranks = 1250}};
  EXPECT_DOUBLE_EQ(simulate_fleet(options).value().phases[1].whole_rate, 2);
  options.fixed_share = 0.25;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_DOUBLE_EQ(outcome.phases[0].whole_rate, 1);
  EXPECT_DOUBLE_EQ(outcome.phases[1].whole_rate, 1 / (0.25 + 0.75 / 2));
}

// A run that is to train so much ends when it has, not before, and with nothing left to be done again.
TEST(FleetSimulation, EndsWhenAllIsTrained) {
  FleetSimulationOptions options = large_run();
  options.days = 100;
  options.work_days = 5;
  options.peer_copies = true;
  for (options.run = 0; options.run < 5; ++options.run) {
    const FleetOutcome outcome = simulate_fleet(options).value();
    EXPECT_NEAR(outcome.work_days, 5, 1e-6);
    EXPECT_NEAR(outcome.work_days, outcome.days * outcome.useful, 1e-6);
    EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
    FleetSimulationOptions shorter = options;
    shorter.days = outcome.days - 0.01;
    EXPECT_LT(simulate_fleet(shorter).value().work_days, 5);
    EXPECT_EQ(simulate_fleet(shorter).value().days, shorter.days);
  }
}

TEST(FleetSimulation, WaitsForMaintenance) {
  FleetSimulationOptions options = large_run();
  options.causes.clear();
  options.days = 10;
  options.outages = {{.every_days = 3, .hours = 6}};
  const FleetOutcome all = simulate_fleet(options).value();
  EXPECT_NEAR(all.maintenance, 3 * 6 / 240.0, 1e-9);
  EXPECT_EQ(all.redone, 0);
  EXPECT_EQ(all.num_replacements, 0);
  options.outages = {{.every_days = 1, .hours = 6, .share = 0.01}};
  const FleetOutcome rolling = simulate_fleet(options).value();
  EXPECT_EQ(rolling.maintenance, 0);
  EXPECT_EQ(rolling.redone, 0);
  EXPECT_GT(rolling.num_replacements, 9 * 120);
  EXPECT_LT(standing(rolling), 9 * 140 / 864'000.0 + 1e-3);
}

TEST(FleetSimulation, APersonResumes) {
  FleetSimulationOptions options;
  options.shape = {.data_ranks = 4};
  options.policy.min_data_ranks = 4;
  options.causes = {{.name = "machine", .per_day = 0.5, .repair_days = {0.2}}};
  options.days = 20;
  const FleetOutcome nobody = simulate_fleet(options).value();
  EXPECT_GT(nobody.stopped, 0.5);
  EXPECT_EQ(nobody.num_stops, 1);
  options.person_seconds = 600;
  const FleetOutcome somebody = simulate_fleet(options).value();
  EXPECT_GT(somebody.num_stops, 5);
  EXPECT_GT(somebody.useful, nobody.useful);
  EXPECT_NEAR(sum_of_parts(somebody), 1, 1e-9);
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
  options.causes.clear();
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_NEAR(outcome.starting, options.restart_seconds / 86400, 1e-9);
  EXPECT_NEAR(outcome.useful, (1 - outcome.starting) * 180 / 185, 1e-9);
  EXPECT_EQ(outcome.num_decisions, 0);
}

TEST(FleetSimulation, StopsWhenMachinesAreTooFew) {
  FleetSimulationOptions options;
  options.shape = {.data_ranks = 4};
  options.policy.min_data_ranks = 4;
  options.causes = {{.name = "machine", .per_day = 1, .repair_days = {100}}};
  options.days = 3;
  const FleetOutcome outcome = simulate_fleet(options).value();
  EXPECT_THAT(outcome.stop_reason, testing::HasSubstr("1 machines are missing for 4 data ranks"));
  EXPECT_GT(outcome.stopped, 0);
  EXPECT_GT(outcome.waiting, 0);
  EXPECT_NEAR(sum_of_parts(outcome), 1, 1e-9);
}

// The quantiles stand for the trace: the same median, and the same mean but for the far end.
TEST(FaultDraws, RepairTimesAreThoseOfTheTrace) {
  const std::vector<double> days = trace_repair_days();
  if (days.empty()) GTEST_SKIP() << "the trace of InfiniteHBD is not there";
  EXPECT_EQ(days.size(), 584U);
  FaultDraws draws({{.name = "x", .per_day = 1}}, {{.machines = 1}}, 0, 0);
  constexpr int kDraws = 200'000;
  double sum = 0, mean = 0;
  int below_median = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double drawn = draws.repair_seconds(draws.causes()[0]) / 86400;
    sum += drawn;
    below_median += drawn < 0.85;
  }
  for (const double each : days) mean += each / static_cast<double>(days.size());
  EXPECT_NEAR(sum / kDraws, mean, 0.08 * mean);
  EXPECT_NEAR(below_median, kDraws / 2, 0.02 * kDraws);
}

TEST(FleetPace, SharesMicrobatchesBySpeed) {
  const std::vector<PaceGroup> even = {{1, 10}}, mixed = {{1, 5}, {2, 5}};
  EXPECT_DOUBLE_EQ(step_microbatches(even, 0), 0.1);
  EXPECT_DOUBLE_EQ(step_microbatches(even, 10), 1);
  EXPECT_DOUBLE_EQ(step_microbatches(even, 11), 2);   // one has two
  EXPECT_DOUBLE_EQ(step_microbatches(mixed, 15), 1);  // the fast have two each
  EXPECT_DOUBLE_EQ(step_microbatches(mixed, 10), 1);
  EXPECT_DOUBLE_EQ(step_microbatches(mixed, 16), 1.5);
  EXPECT_DOUBLE_EQ(step_microbatches(mixed, 20), 1.5);
  EXPECT_DOUBLE_EQ(step_microbatches(mixed, 21), 2);
}

TEST(FleetSimulation, RefusesNonsense) {
  FleetSimulationOptions options = large_run();
  options.shape.ranks_per_data_rank = 12;
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.causes[0].repair_days.clear();
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.causes[1].machines = 8;
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.days = 0;
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.kinds = {{.machines = 3, .data_ranks = 1250}};
  EXPECT_THAT(simulate_fleet(options).status().message(), testing::HasSubstr("have 3 machines"));
  options = large_run();
  options.outages = {{.every_days = 0.1, .hours = 3}};
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.work_days = 0;
  EXPECT_FALSE(simulate_fleet(options).ok());
  options = large_run();
  options.fixed_share = 1;
  EXPECT_FALSE(simulate_fleet(options).ok());
}

}  // namespace
}  // namespace colossus
