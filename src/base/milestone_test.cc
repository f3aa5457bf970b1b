#include "base/milestone.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

namespace colossus {
namespace {

TEST(Milestone, AFaultIsOfOneProcessOfOneRank) {
  const char* faults = "2:kill:update:7,2.3:stop:load:1,12:spin:copy:2,2:kill:load:9";
  EXPECT_EQ(faults_of_process(faults, 2, 1), "kill:update:7,kill:load:9");
  EXPECT_EQ(faults_of_process(faults, 2, 2), "");
  EXPECT_EQ(faults_of_process(faults, 2, 3), "stop:load:1");
  EXPECT_EQ(faults_of_process(faults, 12, 1), "spin:copy:2");
  EXPECT_EQ(faults_of_process(faults, 1, 1), "");
  EXPECT_EQ(faults_of_process("", 0, 1), "");
}

TEST(Milestone, TheProcessEndsAtTheFirstFaultItPasses) {
  const auto pass = [](int num_updates, int num_loads) {
    ::setenv("COLOSSUS_FAULT", "kill:update:3,kill:load:2", 1);
    for (int i = 0; i < num_updates; ++i) milestone("update");
    for (int i = 0; i < num_loads; ++i) milestone("load");
    ::_exit(0);
  };
  EXPECT_EXIT(pass(2, 1), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(pass(3, 0), testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(pass(2, 2), testing::KilledBySignal(SIGKILL), "");
}

TEST(Milestone, AResultIsSpoiledOnceOrEverAfter) {
  const auto pass = [](const char* fault, int times) {
    ::setenv("COLOSSUS_FAULT", fault, 1);
    int num_flips = 0;
    for (int i = 0; i < times; ++i) num_flips += milestone_flips("gradient") ? 1 : 0;
    ::_exit(num_flips);
  };
  EXPECT_EXIT(pass("flip:gradient:3", 2), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(pass("flip:gradient:3", 5), testing::ExitedWithCode(1), "");
  EXPECT_EXIT(pass("flips:gradient:3", 5), testing::ExitedWithCode(3), "");
  EXPECT_EXIT(pass("flip:load:3", 5), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace colossus
