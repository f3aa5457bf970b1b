// A sample of `make chaos`: about a dozen faults, in few runs.
#include <gtest/gtest.h>
#include <signal.h>

#include "chaos.h"
#include "cluster.h"
#include "io/testing.h"

namespace colossus::chaos {
namespace {

class Chaos : public testing::Test {
 protected:
  // One for all: the undisturbed run takes as long as a disturbed one.
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory;
    ground_ = new Ground({.binary = COLOSSUS_BINARY, .directory = directory_->path(), .text = {}});
  }
  static void TearDownTestSuite() {
    delete ground_;
    delete directory_;
  }
  static void expect_held(const Verdict& verdict, int num_faults) {
    EXPECT_EQ(verdict.why, "");
    EXPECT_TRUE(verdict.curve_is_equal);
    EXPECT_EQ(verdict.num_faults, num_faults);
  }
  static inline TemporaryDirectory* directory_ = nullptr;
  static inline Ground* ground_ = nullptr;
};

TEST_F(Chaos, RanksKilledOneAfterTheOther) {
  expect_held(ground_->survives(4, "2:kill:update:4,0:kill:load:80,1:kill:all_gather:40,3:kill:microbatch:50"), 4);
}

TEST_F(Chaos, ARankAndItsReplacementWhileTheOthersRecover) {
  expect_held(ground_->survives(4, "2:kill:update:12,2.2:kill:join:1,1:kill:join:2"), 3);
}

TEST_F(Chaos, ALostNeighbourLosesTheCopyToo) {
  expect_held(ground_->survives(4, "2:kill:update:12,3:kill:update:12"), 2);
}

TEST_F(Chaos, ARankThatStandsStill) { expect_held(ground_->survives(3, "1:stop:microbatch:60"), 1); }

TEST_F(Chaos, ARankThatStandsStillBeforeItsFirstStep) { expect_held(ground_->survives(3, "1:stop:microbatch:1"), 1); }

TEST_F(Chaos, TheSupervisorIsKilled) { expect_held(ground_->resumes_after_signal(4, SIGKILL, 5), 1); }

TEST_F(Chaos, KilledWhileACheckpointGetsItsName) {
  expect_held(ground_->resumes_after_kill("kill:checkpoint_rename:2"), 1);
}

TEST_F(Chaos, ARunThatGivesUpSaysWhyAndLeavesNothingBehind) {
  expect_held(ground_->gives_up(2, "1:kill:load:1,1.2:kill:load:1,1.3:kill:load:1,1.4:kill:load:1", "after 3 restarts"),
              4);
}

TEST_F(Chaos, ARankLostBehindItsLastStep) { expect_held(ground_->survives(3, "1:kill:finish:1"), 1); }

// Two of four ranks, in the leaves they check and in their own.
TEST_F(Chaos, ARankThatComputesWrongNumbersIsNamedAndNothingIsUpdatedWithThem) {
  expect_held(ground_->survives(4, "2:flip:gradient:13,1:flip:gradient:51", Ground::verified()), 2);
}

TEST_F(Chaos, TwoRanksThatContradictEachOtherStop) {
  expect_held(ground_->contradicts_itself("1:flips:gradient:60"), 1);
}

TEST_F(Chaos, FromFourRanksToThreeToOne) { expect_held(ground_->moves({4, 3, 1}, 5), 2); }

// ZeRO 3: no rank has whole parameters. Lost in the update, in an exchange beside the backward pass, between
// microbatches.
TEST_F(Chaos, RanksThatHeldPiecesOfTheParametersAreKilled) {
  const TemporaryDirectory directory;
  Ground ground({.binary = COLOSSUS_BINARY,
                 .directory = directory.path(),
                 .text = {},
                 .settings = {"mesh.zero_stage=3", "train.reduction_leaves=16"}});
  expect_held(ground.survives(4, "2:kill:update:4,0:kill:all_to_all:200,1:kill:microbatch:60"), 3);
}

// Machines that are groups of processes on this one, with names of their own.
ClusterPlan four_machines() {
  ClusterPlan plan{.hosts = {}, .store = {}, .faults = {}};
  for (const char* name : {"m0", "m1", "m2", "m3"}) plan.hosts.push_back({.name = name, .prefix = {}});
  return plan;
}

TEST_F(Chaos, AMachineOfFourIsLost) {
  expect_held(survives_on_machines(*ground_, four_machines(),
                                   [](ClusterRun& run) {
                                     EXPECT_TRUE(run.wait_for_steps(5));
                                     run.kill_machine((run.leader() + 1) % 4);
                                   }),
              1);
}

TEST_F(Chaos, TheMachineThatLeadsIsLostAndASpareTakesItsRanks) {
  ClusterPlan plan = four_machines();
  plan.num_spares = 1;
  plan.ranks = 6;
  expect_held(survives_on_machines(*ground_, plan,
                                   [](ClusterRun& run) {
                                     EXPECT_TRUE(run.wait_for_steps(5));
                                     run.kill_supervisor(run.leader());  // its workers end with it
                                     EXPECT_TRUE(run.wait_for_steps(Ground::kSteps));
                                   }),
              1);
}

TEST_F(Chaos, AWorkerOfAnotherMachineIsLost) {
  expect_held(survives_on_machines(*ground_, four_machines(),
                                   [](ClusterRun& run) {
                                     EXPECT_TRUE(run.wait_for_steps(5));
                                     run.kill_worker((run.leader() + 1) % 4, 1);
                                   }),
              1);
}

TEST_F(Chaos, AMachineThatComputesWrongNumbersIsGivenUp) {
  ClusterPlan plan = four_machines();
  plan.faults = "5:flip:gradient:19";
  plan.settings = {"train.verify_every=1"};
  expect_held(survives_on_machines(*ground_, plan,
                                   [](ClusterRun& run) {
                                     EXPECT_TRUE(run.wait_for_text("computed wrong numbers, and spares are too few"));
                                     ++run.num_faults;
                                     EXPECT_TRUE(run.wait_for_steps(Ground::kSteps));
                                     EXPECT_EQ(run.given_up(), run.name_of_number(2) + "\n");
                                   }),
              1);
}

}  // namespace
}  // namespace colossus::chaos
