#include "train/recovery/run_entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace colossus {
namespace {

using testing::HasSubstr;

class RunEntry : public testing::Test {
 protected:
  Result<Entry> enter(const std::string& machine, const std::string& launch = "-", int preferred = -1) {
    return enter_run(*store_,
                     {.machine = machine,
                      .launch = launch,
                      .num_machines = 3,
                      .preferred = preferred,
                      .lease_seconds = 0.2,
                      .patience_seconds = 1},
                     stop_, [](const std::string&) {});
  }
  std::unique_ptr<KeyValueStore> store_ = make_memory_store();
  std::atomic<bool> stop_ = false;
};

TEST_F(RunEntry, GivesEachMachineANumberAndTheSameAgain) {
  EXPECT_EQ(enter("a")->machine, 0);
  EXPECT_EQ(enter("b", "-", 2)->machine, 2);
  EXPECT_EQ(enter("c", "-", 2)->machine, 1);
  EXPECT_EQ(enter("b")->machine, 2);
  EXPECT_EQ(enter("b")->life.count, 1);
  EXPECT_THAT(enter("d").status().message(), HasSubstr("--spares"));
}

TEST_F(RunEntry, ANewStartBeginsANewLifeOnceTheOldOneIsOver) {
  const Entry first = enter("a").value();
  ASSERT_TRUE(leave_run(*store_, first.life).ok());
  ASSERT_TRUE(leave_run(*store_, first.life).ok()) << "every machine says so";
  EXPECT_EQ(enter("b")->life.count, 2);
  ASSERT_TRUE(leave_run(*store_, first.life).ok()) << "and one late";
  EXPECT_EQ(enter("c")->life.count, 2);
}

TEST_F(RunEntry, ALaunchThatIsOverIsNotEnteredAgain) {
  const Entry first = enter("a", "slurm-1.0.0").value();
  ASSERT_TRUE(leave_run(*store_, first.life).ok());
  EXPECT_THAT(enter("b", "slurm-1.0.0").status().message(), HasSubstr("is over"));
  EXPECT_EQ(enter("b", "slurm-1.1.0")->life.count, 2);
}

TEST_F(RunEntry, AnotherLaunchTakesOverFromOneThatIsDeadAndFromNoOther) {
  ASSERT_TRUE(enter("a", "slurm-1.0.0").ok());
  std::atomic<bool> dead = false;
  std::thread leader([&] {
    for (int i = 0; !dead; ++i) {
      ASSERT_TRUE(store_->set("life-1/leader", "1 a " + std::to_string(i)).ok());
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  const auto refused = enter("b", "slurm-2.0.0");
  dead = true;
  leader.join();
  EXPECT_THAT(refused.status().message(), HasSubstr("is alive"));
  EXPECT_EQ(enter("b", "slurm-2.0.0")->life.count, 2);
}

}  // namespace
}  // namespace colossus
