#include "train/recovery/decision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "train/recovery/testing.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two ranks on a machine; a data rank is a machine unless said otherwise.
constexpr FleetShape kFour = {.ranks_per_machine = 2, .ranks_per_data_rank = 2, .data_ranks = 4};
constexpr FleetShape kFourAndSpares = {
    .ranks_per_machine = 2, .ranks_per_data_rank = 2, .data_ranks = 4, .num_spares = 2};
constexpr FleetShape kWide = {.ranks_per_machine = 2, .ranks_per_data_rank = 4, .data_ranks = 3};

struct Event {
  double at;
  std::function<void(FleetWorld&)> happens;
};

Event silence(double at, int machine) {
  return {at, [=](FleetWorld& world) { world.silence(machine); }};
}
Event repair(double at, int machine) {
  return {at, [=](FleetWorld& world) { world.repair(machine); }};
}
Event hear_again(double at, int machine) {
  return {at, [=](FleetWorld& world) { world.hear_again(machine); }};
}
Event exits(double at, int rank, int code) {
  return {at, [=](FleetWorld& world) { world.end_process(rank, code, 0); }};
}
Event killed(double at, int rank) {
  return {at, [=](FleetWorld& world) { world.end_process(rank, 0, 9); }};
}
Event hangs(double at, int rank) {
  return {at, [=](FleetWorld& world) { world.hang(rank); }};
}
Event freezes(double at, int rank) {
  return {at, [=](FleetWorld& world) { world.freeze(rank); }};
}
Event slows(double at, int machine, float ratio) {
  return {at, [=](FleetWorld& world) { world.slow_down(machine, ratio); }};
}
Event doom(double at, int rank) {
  return {at, [=](FleetWorld& world) { world.crash_whenever_started(rank); }};
}
Event told_again(double at) {
  return {at, [](FleetWorld& world) { world.tell_last_exit_again(); }};
}
Event errs(double at, int rank) {
  return {at, [=](FleetWorld& world) { world.tell_of_wrong_numbers(rank); }};
}
Event network(double at, bool stalls) {
  return {at, [=](FleetWorld& world) { world.stall_network(stalls); }};
}

struct Case {
  const char* name;
  FleetShape shape;
  RecoveryPolicy policy;
  std::vector<Event> events;
  double until;
  std::vector<std::string> decisions;  // "second: actions"; what is only "continue" is left out
  const char* reason;                  // part of one of the actions' reasons
};

std::vector<Case> cases() {
  const RecoveryPolicy usual, three{.min_data_ranks = 3}, four{.min_data_ranks = 4, .give_up_seconds = 100};
  return {
      {"NothingHappens", kFour, usual, {}, 200, {}, ""},
      {"AMachineDies",
       kFourAndSpares,
       usual,
       {silence(10, 1)},
       60,
       {"15: replace 1: 1->4"},
       "machine 1 is silent for 6 s; its ranks move to machine 4"},
      {"ThreeSecondsOfSilenceAreNone", kFourAndSpares, usual, {silence(10, 1), hear_again(13, 1)}, 60, {}, ""},
      {"TwoMachinesDieAtOnce",
       kFourAndSpares,
       usual,
       {silence(10, 1), silence(10, 3)},
       60,
       {"15: replace 1: 1->4, replace 3: 3->5"},
       "machine 3 is silent"},
      {"SilentSparesAreNotUsed",
       kFourAndSpares,
       usual,
       {silence(3, 4), silence(10, 1)},
       60,
       {"15: replace 1: 1->5"},
       ""},
      {"AMachineDiesAndNoneIsSpare",
       kFour,
       usual,
       {silence(10, 1)},
       60,
       {"15: shrink 3 without 1"},
       "machine 1 is silent for 6 s, and spares are too few: 3 data ranks go on"},
      {"TheLastMachineOfTheLineDies", kFour, usual, {silence(10, 3)}, 60, {"15: shrink 3 without 3"}, ""},
      {"ItComesBack",
       kFour,
       usual,
       {silence(10, 1), repair(30, 1)},
       120,
       {"15: shrink 3 without 1", "90: grow 4 by 1"},
       "1 machines are back: 4 data ranks go on"},
      {"BlocksShareWhatIsLeft",
       kWide,
       usual,
       {silence(10, 0), silence(10, 2)},
       60,
       {"15: shrink 2 without 1, replace 0: 0->3"},
       ""},
      {"FewerThanTheMinimumWait", kFour, four, {silence(10, 2), repair(50, 2)}, 100, {"50: replace 2: 2->2"}, ""},
      {"AndStopWhenNoneComes",
       kFour,
       four,
       {silence(10, 2)},
       300,
       {"116: stop"},
       "1 machines are missing for 4 data ranks, and at least 4 are wanted, for 101 s"},
      {"TheMinimumIsKept",
       kFour,
       three,
       {silence(10, 2), silence(30, 0), repair(60, 0)},
       100,
       {"15: shrink 3 without 2", "60: replace 0: 0->0"},
       ""},
      {"AProcessIsKilled",
       kFourAndSpares,
       usual,
       {killed(10, 3)},
       60,
       {"11: restart 3..3"},
       "rank 3 (machine 1) was ended by signal 9"},
      {"ItIsToldTwice",
       kFourAndSpares,
       usual,
       {killed(10, 3), told_again(10), told_again(12), told_again(20)},
       60,
       {"11: restart 3..3"},
       ""},
      {"TwoAreKilled",
       kFourAndSpares,
       usual,
       {killed(10, 3), killed(10, 2)},
       60,
       {"11: restart 2..3"},
       "so up to rank 3"},
      {"APeerIsLost",
       kFourAndSpares,
       usual,
       {silence(10, 1), exits(11, 0, 6), exits(11, 7, 6)},
       60,
       {"15: replace 1: 1->4, restart 0..0, restart 7..7"},
       "having lost a peer"},
      {"APeerIsLostAndNobodyKnowsWhy", kFour, usual, {exits(10, 0, 6)}, 60, {"15: restart 0..0"}, ""},
      {"TryingAgainIsHopeless",
       kFour,
       usual,
       {exits(10, 5, 2)},
       60,
       {"10: stop"},
       "rank 5 (machine 2) ended with code 2, which says that trying again will not help"},
      {"AFaultOfTheMachine",
       kFourAndSpares,
       usual,
       {killed(20, 3), killed(40, 3), killed(60, 3), killed(80, 3)},
       160,
       {"21: restart 3..3", "42: restart 3..3", "64: restart 3..3", "80: replace 1: 1->4"},
       "after 3 restarts within 60 s; its ranks move to machine 4"},
      {"RestartsOfLongAgoAreForgiven",
       kFourAndSpares,
       {.restart_window_seconds = 50},
       {killed(20, 3), killed(40, 3), killed(60, 3), killed(80, 3)},
       160,
       {"21: restart 3..3", "42: restart 3..3", "64: restart 3..3", "84: restart 3..3"},
       ""},
      {"AFaultOfTheProgram",
       kFourAndSpares,
       usual,
       {doom(20, 3)},
       400,
       {"21: restart 3..3", "27: restart 3..3", "35: restart 3..3", "39: replace 1: 1->4", "47: restart 3..3",
        "63: restart 3..3", "95: restart 3..3", "99: stop"},
       "the fault moves with the rank"},
      {"AFaultOfTheMachineAndNoOther",
       kFour,
       four,
       {doom(20, 3)},
       400,
       {"21: restart 3..3", "27: restart 3..3", "35: restart 3..3", "39: stop"},
       "and no machine is spare"},
      {"StormsOfAllEnd",
       kFourAndSpares,
       {.max_restarts = 100, .longest_backoff_seconds = 4, .max_fruitless = 5},
       {doom(20, 3)},
       400,
       {"21: restart 3..3", "27: restart 3..3", "35: restart 3..3", "43: restart 3..3", "51: restart 3..3", "55: stop"},
       "5 restarts of the run in a row without a new step after step"},
      {"AMachineComputesWrongNumbers",
       kFourAndSpares,
       usual,
       {errs(10, 3)},
       60,
       {"10: replace 1: 1->4"},
       "rank 3 (machine 1) computed wrong numbers; its ranks move to machine 4"},
      {"AllRanksOfAMachineErr",
       kFourAndSpares,
       usual,
       {errs(10, 2), errs(10, 3), errs(10, 3)},
       60,
       {"10: replace 1: 1->4"},
       ""},
      {"WrongNumbersAndNoneIsSpare", kFour, usual, {errs(10, 3)}, 60, {"10: shrink 3 without 1"}, ""},
      {"WrongNumbersAndTheRunCannotShrink",
       kFour,
       four,
       {errs(10, 3), errs(30, 3), errs(50, 3), errs(70, 3)},
       100,
       {"11: restart 3..3", "32: restart 3..3", "54: restart 3..3", "70: stop"},
       "rank 3 (machine 1) computed wrong numbers, after 3 restarts"},
      {"WrongNumbersOnTwoMachinesAreTheProgram",
       kFourAndSpares,
       usual,
       {errs(10, 3), errs(40, 3)},
       100,
       {"10: replace 1: 1->4", "40: stop"},
       "computed wrong numbers, and before that on another machine"},
      {"OneHangs",
       kFour,
       usual,
       {hangs(20, 3)},
       100,
       {"51: restart 3..3"},
       "rank 3 (machine 1) has made no step for 31 s while its process lives; its peers wait in all_to_all"},
      {"TwoHang", kFour, usual, {hangs(20, 3), hangs(20, 6)}, 100, {"51: restart 3..3, restart 6..6"}, ""},
      {"TheNetworkHangs",
       kFour,
       usual,
       {network(20, true), network(51, false)},
       100,
       {"50: restart 0..7"},
       "8 of 8 have come equally far, into all_to_all: the network, or all of them"},
      {"AProcessIsFrozen",
       kFour,
       usual,
       {freezes(20, 3)},
       60,
       {"26: restart 3..3"},
       "rank 3 (machine 1) is silent for 6 s while its machine answers"},
      {"AMachineIsSlow",
       kFourAndSpares,
       usual,
       {slows(20, 2, 1.2f)},
       100,
       {"39: drain 2: 2->4"},
       "rank 4 (machine 2) took 20 % longer than its peers over 20 steps"},
      {"AndNoneIsSpare", kFour, usual, {slows(20, 2, 1.2f)}, 100, {}, ""},
      {"SlowButWithinTheMargin", kFourAndSpares, usual, {slows(20, 2, 1.05f)}, 100, {}, ""},
      {"SlowOnTwoMachinesIsTheWork",
       kFourAndSpares,
       usual,
       {slows(20, 2, 1.2f), slows(20, 4, 1.2f)},
       200,
       {"39: drain 2: 2->4"},
       ""},
      {"ThisSideIsCutOff",
       kFourAndSpares,
       usual,
       {silence(10, 0), silence(10, 1), silence(10, 2), hear_again(40, 0), hear_again(41, 1), hear_again(42, 2)},
       100,
       {},
       ""},
      {"OneStaysSilentAfterwards",
       kFourAndSpares,
       usual,
       {silence(10, 0), silence(10, 1), silence(10, 2), hear_again(40, 0), hear_again(41, 1)},
       100,
       {"45: replace 2: 2->4"},
       ""},
      {"HalfAreNoMajority",
       {.ranks_per_machine = 2, .ranks_per_data_rank = 2, .data_ranks = 2, .num_spares = 1},
       usual,
       {silence(10, 0)},
       60,
       {"15: replace 0: 0->2"},
       ""},
      {"AMachineIsStartedAnewInASecond", kFour, usual, {repair(10, 1)}, 60, {"11: restart 2..3"}, ""},
      {"AllFinish",
       kFour,
       usual,
       {exits(10, 0, 0), exits(10, 1, 0), exits(11, 2, 0), exits(11, 3, 0), exits(11, 4, 0), exits(11, 5, 0),
        exits(12, 6, 0), exits(12, 7, 0)},
       60,
       {"12: finished"},
       "all 8 ranks have finished"},
      {"OneFailsWhileOthersHaveFinished",
       kFour,
       usual,
       {exits(10, 0, 0), killed(11, 7)},
       60,
       {"12: restart 0..0, restart 7..7"},
       "rank 0 (machine 0) had finished before others"},
      {"OneIsOneself",
       {.ranks_per_machine = 1, .ranks_per_data_rank = 1},
       usual,
       {hangs(20, 0)},
       100,
       {"51: restart 0..0"},
       "rank 0 (machine 0) has made no step for 31 s"},
  };
}

class DecisionCases : public testing::TestWithParam<Case> {};

TEST_P(DecisionCases, AreDecidedRight) {
  const Case& test = GetParam();
  FleetWorld world(test.shape, test.policy);
  std::vector<std::string> decisions;
  std::string reasons;
  size_t next = 0;
  while (world.now() < test.until) {
    while (next < test.events.size() && test.events[next].at <= world.now() + 1) test.events[next++].happens(world);
    const Decision decision = world.tick();
    if (print(decision) == "continue") continue;
    decisions.push_back(fmt::format("{:.0f}: {}", world.now(), print(decision)));
    for (const Action& action : decision.actions) reasons += action.reason + "\n";
  }
  EXPECT_EQ(decisions, test.decisions) << fmt::format("{}\n{}", fmt::join(decisions, "\n"), reasons);
  EXPECT_THAT(reasons, HasSubstr(test.reason));
  if (world.fleet.stopped.empty()) {
    const int64_t step = world.step();
    world.tick();
    EXPECT_GT(world.step(), step) << "no progress: " << world.tick().actions.front().reason;
  }
}

INSTANTIATE_TEST_SUITE_P(All, DecisionCases, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(Decision, NeedsALease) {
  FleetWorld world(kFourAndSpares, {});
  world.lease.valid_until = 12;
  world.silence(1);
  for (int i = 0; i < 20; ++i) {
    const Decision decision = world.tick();
    EXPECT_EQ(print(decision), world.now() < 12 && world.now() == 6 ? "replace 1: 1->4" : "continue");
  }
  FleetWorld late(kFourAndSpares, {});
  late.lease.valid_until = 5;
  late.silence(1);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(print(late.tick()), "continue");
  EXPECT_EQ(late.fleet.generation, 0);
  EXPECT_THAT(late.tick().actions.front().reason, HasSubstr("the lease of term 1 is over"));
}

// Who takes over has heard nobody yet.
TEST(Decision, ListensBeforeItJudges) {
  const FleetShape shape = kFourAndSpares;
  Fleet fleet = make_fleet(shape, 0);
  const Lease lease{.term = 2, .valid_until = 1e9};
  take_office(fleet, 100);
  observe(fleet, MachineHeartbeat{.time = 100.5, .first_machine = 0, .end_machine = 3});
  EXPECT_EQ(print(decide({}, fleet, lease, 101)), "continue");
  observe(fleet, MachineHeartbeat{.time = 105.5, .first_machine = 0, .end_machine = 3});
  observe(fleet, MachineHeartbeat{.time = 105.5, .first_machine = 4, .end_machine = 6});
  const Decision decision = decide({}, fleet, lease, 105.6);
  EXPECT_EQ(print(decision), "replace 3: 3->4");
  EXPECT_EQ(decision.term, 2);
  EXPECT_EQ(decision.generation, 1);
}

TEST(Decision, NamesMachinesByTheirNames) {
  Fleet fleet = make_fleet(kFour, 0);
  fleet.machine_names = {"node-0", "node-1", "node-2", "node-3"};
  EXPECT_EQ(fleet.rank_name(5), "rank 5 (node-2)");
}

// Heartbeats, exits and step times of a membership that is over change nothing.
TEST(Decision, IgnoresWhatIsOver) {
  Fleet fleet = make_fleet(kFour, 0);
  const Lease lease{.term = 1, .valid_until = 1e9};
  const RankExit exit{.machine = 1, .local_rank = 1, .process = 0, .signal = 9};
  observe(fleet, exit);
  EXPECT_EQ(print(decide({}, fleet, lease, 1)), "continue");
  EXPECT_EQ(print(decide({}, fleet, lease, 2)), "restart 3..3");
  const int64_t step = fleet.best_step;
  observe(fleet, exit);
  observe(fleet, RankHeartbeat{.time = 3, .first_rank = 0, .end_rank = 8, .generation = 0, .step = 50});
  observe(fleet, StepTimes{.generation = 0, .step = 50, .slow = {{3, 2.0f}}}, 20);
  EXPECT_EQ(fleet.best_step, step);
  EXPECT_THAT(fleet.faults, IsEmpty());
  EXPECT_THAT(fleet.slow, IsEmpty());
}

// Whatever happened to them before: else a long run would become slow to judge.
TEST(Fleet, RanksThatDoTheSameAreOneRun) {
  FleetShape shape = kFourAndSpares;
  shape.data_ranks = 100;
  Fleet fleet = make_fleet(shape, 0);
  const Lease lease{.term = 1, .valid_until = 1e9};
  double now = 0;
  for (int i = 0; i < 50; ++i) {
    observe(fleet, MachineHeartbeat{.time = now, .first_machine = 0, .end_machine = 102});
    observe(fleet, RankExit{.machine = i, .local_rank = i % 2, .signal = 9});
    for (int second = 0; second < 3; ++second) decide({}, fleet, lease, now += 1);
    observe(fleet,
            RankHeartbeat{.time = now, .first_rank = 0, .end_rank = 200, .generation = fleet.generation, .step = i});
    EXPECT_EQ(fleet.generation, i + 1);
    EXPECT_EQ(fleet.ranks.num_runs(), 1);
    EXPECT_EQ(fleet.machine_seen_at.num_runs(), 1);
  }
}

TEST(Fleet, FindsWhoIsSlowerThanPeers) {
  // Three data ranks of two: the second of each has more to do, and nobody is slow.
  const FleetShape shape{.ranks_per_machine = 2, .ranks_per_data_rank = 2, .data_ranks = 3};
  EXPECT_THAT(slower_than_peers(shape, {1, 3, 1, 3, 1, 3}, 1.1f), IsEmpty());
  const std::vector<SlowRank> slow = slower_than_peers(shape, {1, 3, 1, 4.5f, 1.2f, 3}, 1.1f);
  ASSERT_EQ(slow.size(), 2u);
  EXPECT_EQ(slow[0].rank, 3);
  EXPECT_FLOAT_EQ(slow[0].ratio, 1.5f);
  EXPECT_EQ(slow[1].rank, 4);
  EXPECT_FLOAT_EQ(slow[1].ratio, 1.2f);
  // Of two nobody knows which is the slow one.
  EXPECT_THAT(slower_than_peers(shape, {1, 3, 1, 9}, 1.1f), IsEmpty());
}

TEST(Fleet, RefusesShapesThatDoNotFit) {
  EXPECT_TRUE(check({.ranks_per_machine = 8, .ranks_per_data_rank = 64, .data_ranks = 3}).ok());
  EXPECT_TRUE(check({.ranks_per_machine = 8, .ranks_per_data_rank = 2, .data_ranks = 8}).ok());
  for (const FleetShape& shape : {FleetShape{.ranks_per_machine = 8, .ranks_per_data_rank = 12},
                                  FleetShape{.ranks_per_machine = 8, .ranks_per_data_rank = 2, .data_ranks = 6},
                                  FleetShape{.ranks_per_machine = 0}, FleetShape{.data_ranks = 0},
                                  FleetShape{.num_spares = -1}, FleetShape{.data_ranks = 1 << 30}}) {
    EXPECT_EQ(check(shape).code(), ErrorCode::kInvalid);
  }
}

}  // namespace
}  // namespace colossus
