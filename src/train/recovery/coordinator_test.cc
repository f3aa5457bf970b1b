#include "train/recovery/coordinator.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Machines with two ranks each that do as they are told, and a clock.
class FakeCluster {
 public:
  explicit FakeCluster(int num_machines, int num_spares = 0)
      : options_{.policy = {.dead_after_seconds = 5,
                            .hang_after_seconds = 10,
                            .backoff_seconds = 0.1,
                            .grow_after_seconds = 20},
                 .shape = {.ranks_per_machine = 2,
                           .ranks_per_data_rank = 1,
                           .data_ranks = 2 * num_machines,
                           .num_spares = num_spares},
                 .mesh = {.shard = 2 * num_machines},
                 .note = [this](const std::string& text) { notes += text + "\n"; }} {
    for (int i = 0; i < num_machines + num_spares; ++i) {
      names_.push_back(fmt::format("node-{}", i));
      reports.push_back(MachineReport{.incarnation = fmt::format("first.{}", i), .beat = 1, .ranks = {}});
      reports.back()->ranks.resize(2);
    }
  }

  void begin() {
    coordinator_.emplace(options_, names_, reports, now_);
    assignment = coordinator_->assignment(lease(), now_);
    obey();
  }

  // As the leader's machine dies: another reads what was written.
  void change_leader() {
    const std::string text = print_assignment(assignment);
    coordinator_.emplace(options_, parse_assignment(text).value(), now_);
    EXPECT_EQ(print_assignment(coordinator_->assignment({.term = assignment.term, .valid_until = 1e9}, now_)), text);
    ++term_;
  }

  // All that are not silent are heard; then it is decided. True if something new was.
  bool step(double seconds = 0.5) {
    now_ += seconds;
    for (size_t i = 0; i < reports.size(); ++i) {
      if (!reports[i]) continue;
      if (!silent.contains(static_cast<int>(i))) {
        ++reports[i]->beat;
        for (RankRecord& rank : reports[i]->ranks) rank.heartbeat.beat += rank.process >= 0 && !rank.ended ? 1 : 0;
      }
      coordinator_->observe(static_cast<int>(i), names_[i], *reports[i], now_);
    }
    const auto next = coordinator_->decide(lease(), now_);
    if (!next) return false;
    EXPECT_EQ(print_assignment(parse_assignment(print_assignment(*next)).value()), print_assignment(*next));
    assignment = *next;
    obey();
    return true;
  }
  bool step_for(double seconds) {
    for (double t = 0; t < seconds; t += 0.5)
      if (step()) return true;
    return false;
  }

  // Ranks join the generation and have done this step.
  void train_to(int64_t step) {
    for (auto& report : reports)
      if (report)
        for (RankRecord& rank : report->ranks)
          if (rank.process >= 0 && !rank.ended) {
            rank.heartbeat.generation = assignment.generation + 1;
            rank.heartbeat.step = step;
            ++rank.heartbeat.progress;
          }
  }
  RankRecord& record(int machine, int place) {
    return reports[static_cast<size_t>(machine)]->ranks[static_cast<size_t>(place)];
  }
  void kill(int machine, int place) {
    record(machine, place).ended = true;
    record(machine, place).signal = 9;
  }

  std::vector<std::optional<MachineReport>> reports;
  std::set<int> silent;
  Assignment assignment;
  std::string notes;

 private:
  Lease lease() const { return {.term = term_, .valid_until = now_ + 5}; }

  void obey() {
    for (size_t i = 0; i < reports.size(); ++i) {
      if (!reports[i] || silent.contains(static_cast<int>(i))) continue;
      const auto slot = assignment.slot_of(static_cast<int>(i));
      for (int place = 0; place < 2; ++place) {
        RankRecord& rank = reports[i]->ranks[static_cast<size_t>(place)];
        const int64_t wanted = slot ? assignment.processes.at(2 * *slot + place) : -1;
        if (rank.process != wanted) rank = {.process = wanted, .heartbeat = {}, .words = {}, .wrong_ranks = {}};
      }
    }
  }

  CoordinatorOptions options_;
  std::vector<std::string> names_;
  std::optional<Coordinator> coordinator_;
  int64_t term_ = 1;
  double now_ = 100;
};

TEST(Coordinator, BeginsWithTheMachinesThatHaveCome) {
  FakeCluster cluster(2, 2);
  const MachineReport late = *cluster.reports[1];
  cluster.reports[1].reset();
  cluster.begin();
  EXPECT_THAT(cluster.assignment.machine_of_slot, ElementsAre(0, 2));
  EXPECT_THAT(cluster.assignment.membership()->workers, ElementsAre("w0.0.0", "w0.1.0", "w2.0.0", "w2.1.0"));
  EXPECT_EQ(cluster.assignment.machines[1].state, MachineState::kOutOfOrder);
  cluster.reports[1] = late;
  cluster.train_to(1);
  EXPECT_FALSE(cluster.step());
  cluster.silent = {2};
  EXPECT_TRUE(cluster.step_for(10));
  EXPECT_EQ(cluster.assignment.slot_of(2), std::nullopt);
  EXPECT_EQ(cluster.assignment.machine_of_slot.size(), 2u);
  EXPECT_THAT(cluster.notes, HasSubstr("node-2 is silent"));
}

TEST(Coordinator, ReplacesTheProcessThatEndedAndNoOther) {
  FakeCluster cluster(3);
  cluster.begin();
  cluster.train_to(3);
  EXPECT_FALSE(cluster.step());
  cluster.kill(1, 1);
  ASSERT_TRUE(cluster.step_for(2));
  EXPECT_EQ(cluster.assignment.generation, 1);
  EXPECT_THAT(cluster.assignment.membership()->workers,
              ElementsAre("w0.0.0", "w0.1.0", "w1.0.0", "w1.1.1", "w2.0.0", "w2.1.0"));
  cluster.train_to(4);
  EXPECT_FALSE(cluster.step_for(2));
  EXPECT_THAT(cluster.notes, HasSubstr("all 6 ranks are past step 3"));
}

// The next leader knows what the one before has counted.
TEST(Coordinator, ARankThatFailsAgainAndAgainIsCountedByAllLeaders) {
  FakeCluster cluster(2, 1);
  cluster.begin();
  for (int i = 0; i < 3; ++i) {
    cluster.train_to(5 + i);
    EXPECT_FALSE(cluster.step());
    cluster.kill(1, 0);
    ASSERT_TRUE(cluster.step_for(5));
    EXPECT_EQ(cluster.assignment.slot_of(1), 1);
    cluster.change_leader();
  }
  cluster.train_to(9);
  EXPECT_FALSE(cluster.step());
  cluster.kill(1, 0);
  ASSERT_TRUE(cluster.step_for(5));
  EXPECT_EQ(cluster.assignment.slot_of(1), std::nullopt);
  EXPECT_EQ(cluster.assignment.slot_of(2), 1);
  EXPECT_EQ(cluster.assignment.machines[1].state, MachineState::kOutOfOrder);
  cluster.change_leader();
  // It answers, and stays where it is until it says that it was started anew.
  EXPECT_FALSE(cluster.step_for(5));
  EXPECT_EQ(cluster.assignment.machines[1].state, MachineState::kOutOfOrder);
}

TEST(Coordinator, GoesOnWithFewerMachinesAndTakesThemBack) {
  FakeCluster cluster(4);
  cluster.begin();
  cluster.train_to(2);
  cluster.step();
  cluster.silent = {3};
  EXPECT_TRUE(cluster.step_for(10));
  EXPECT_EQ(cluster.assignment.num_ranks(), 6);
  EXPECT_EQ(cluster.assignment.shard, 6);
  cluster.change_leader();
  for (int64_t step = 3; step < 10; ++step) {
    cluster.train_to(step);
    EXPECT_FALSE(cluster.step_for(5)) << "nobody has come";
  }
  cluster.silent.clear();
  cluster.reports[3] = MachineReport{.incarnation = "second.3", .ranks = {{}, {}}};
  int64_t step = 10;
  do cluster.train_to(step++);
  while (!cluster.step_for(5) && step < 20);
  EXPECT_EQ(cluster.assignment.num_ranks(), 8);
  EXPECT_THAT(cluster.assignment.membership()->workers.back(), HasSubstr("w3.1."));
}

// The agent of a machine was started anew, faster than its silence was noticed: its processes are gone.
TEST(Coordinator, AMachineThatWasStartedAnewHasNoRanks) {
  FakeCluster cluster(2);
  cluster.begin();
  cluster.train_to(2);
  cluster.step();
  cluster.reports[1] = MachineReport{.incarnation = "second.1", .ranks = {{}, {}}};
  EXPECT_TRUE(cluster.step_for(3));
  EXPECT_THAT(cluster.assignment.membership()->workers, ElementsAre("w0.0.0", "w0.1.0", "w1.0.1", "w1.1.1"));
}

TEST(Coordinator, RanksThatLostEachOtherMeetAgainOnceAllMachinesAnswer) {
  FakeCluster cluster(4);
  cluster.begin();
  cluster.train_to(2);
  cluster.step();
  cluster.record(0, 0).broken_in = cluster.assignment.generation + 1;
  cluster.record(0, 0).words = "lost rank 2";
  cluster.silent = {1};
  EXPECT_FALSE(cluster.step_for(4)) << "a machine is missing";
  cluster.silent.clear();
  EXPECT_TRUE(cluster.step_for(4));
  EXPECT_EQ(cluster.assignment.generation, 1);
  EXPECT_EQ(cluster.assignment.num_ranks(), 8);
  EXPECT_THAT(cluster.notes, HasSubstr("meet again: lost rank 2"));
}

// Most of the ranks have to say so: one alone may be the one that errs.
TEST(Coordinator, AMachineThatComputesWrongNumbersLeaves) {
  FakeCluster cluster(4);
  cluster.begin();
  cluster.train_to(2);
  cluster.step();
  const auto accuse = [&](int machine, int place) {
    cluster.record(machine, place).broken_in = cluster.assignment.generation + 1;
    cluster.record(machine, place).wrong_ranks = {3, 99};
  };
  for (const int machine : {0, 1}) {
    accuse(machine, 0);
    accuse(machine, 1);
  }
  EXPECT_FALSE(cluster.step()) << "four of eight";
  accuse(2, 0);
  ASSERT_TRUE(cluster.step());
  EXPECT_EQ(cluster.assignment.num_ranks(), 6);
  EXPECT_EQ(cluster.assignment.machines[1].state, MachineState::kOutOfOrder);
  EXPECT_THAT(cluster.notes, HasSubstr("rank 3 (node-1) computed wrong numbers"));
  // What was said in the generation before counts no more.
  cluster.train_to(3);
  EXPECT_FALSE(cluster.step_for(2));
}

TEST(Coordinator, TheRunIsFinishedOnceAllRanksAre) {
  FakeCluster cluster(2);
  cluster.begin();
  cluster.train_to(9);
  for (int machine = 0; machine < 2; ++machine)
    for (int place = 0; place < 2; ++place) {
      EXPECT_FALSE(cluster.step());
      cluster.record(machine, place).finished_in = cluster.assignment.generation + 1;
    }
  // Behind its last step a process is no loss.
  cluster.kill(1, 1);
  EXPECT_TRUE(cluster.step());
  EXPECT_EQ(cluster.assignment.phase, RunPhase::kFinished);
}

TEST(Coordinator, AStopIsPassedOnAndEndsWhenAllHaveSaved) {
  FakeCluster cluster(2);
  cluster.begin();
  cluster.train_to(9);
  cluster.step();
  cluster.reports[1]->stop_requested = true;
  EXPECT_TRUE(cluster.step());
  EXPECT_EQ(cluster.assignment.phase, RunPhase::kSaving);
  EXPECT_FALSE(cluster.step());
  cluster.change_leader();
  for (int machine = 0; machine < 2; ++machine)
    for (int place = 0; place < 2; ++place) {
      EXPECT_FALSE(cluster.step());
      cluster.record(machine, place).ended = true;
      cluster.record(machine, place).code = 130;
    }
  EXPECT_TRUE(cluster.step());
  EXPECT_EQ(cluster.assignment.phase, RunPhase::kSaved);
  EXPECT_EQ(cluster.assignment.reason, "");
}

TEST(Coordinator, AStopThatARankDoesNotSurviveSaysSo) {
  FakeCluster cluster(2);
  cluster.begin();
  cluster.train_to(9);
  cluster.step();
  cluster.reports[0]->stop_requested = true;
  EXPECT_TRUE(cluster.step());
  cluster.silent = {1};
  EXPECT_TRUE(cluster.step_for(30));
  EXPECT_EQ(cluster.assignment.phase, RunPhase::kSaved);
  EXPECT_THAT(cluster.assignment.reason, HasSubstr("not all ranks could save"));
}

TEST(Coordinator, TheMeshFollowsTheNumberOfRanks) {
  const MeshConfig run{.data = 4, .shard = 2};
  EXPECT_EQ(mesh_of(run, 6).data, 3);
  EXPECT_EQ(mesh_of(run, 6).shard, 2);
  EXPECT_EQ(mesh_of(run, 3).data, 1);
  EXPECT_EQ(mesh_of(run, 3).shard, 3);
}

}  // namespace
}  // namespace colossus
