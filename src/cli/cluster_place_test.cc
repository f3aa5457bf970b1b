#include "cli/cluster_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace colossus {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Result<ClusterPlace> place(const ClusterArguments& arguments, const Variables& variables = {}) {
  return find_cluster_place(arguments, "/shared/out", [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

const Variables kSlurm = {{"SLURM_JOB_ID", "77"},        {"SLURM_STEP_ID", "0"},      {"SLURM_STEP_NUM_NODES", "4"},
                          {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_NODEID", "2"},       {"SLURMD_NODENAME", "node-2"},
                          {"SLURM_RESTART_COUNT", "1"},  {"SLURM_JOB_NUM_NODES", "4"}};

TEST(ClusterPlace, IsOneMachineUnlessToldOtherwise) {
  const ClusterPlace alone = place({}).value();
  EXPECT_TRUE(alone.alone());
  EXPECT_EQ(alone.store, "");
  EXPECT_THAT(place({.store = "/x"}).status().message(), HasSubstr("--machines"));
  // In the script of a job, outside of any step.
  EXPECT_TRUE(place({}, {{"SLURM_JOB_ID", "77"}, {"SLURM_JOB_NUM_NODES", "4"}, {"SLURM_NODEID", "0"}}).value().alone());
}

TEST(ClusterPlace, IsNamedOnTheCommandLine) {
  const ClusterPlace four = place({.machines = 4, .spares = 1, .machine = "a", .store = "etcd://h:2379/run"}).value();
  EXPECT_EQ(four.machines, 4);
  EXPECT_EQ(four.spares, 1);
  EXPECT_EQ(four.machine, "a");
  EXPECT_EQ(four.store, "etcd://h:2379/run");
  EXPECT_EQ(four.launch, "-");
  EXPECT_EQ(place({.machines = 4, .machine = "a"}).value().store, "/shared/out/store");
  EXPECT_THAT(place({.machines = 2, .machine = "a b"}).status().message(), HasSubstr("--machine"));
  EXPECT_THAT(place({.machines = -1}).status().message(), HasSubstr("--machines"));
}

TEST(ClusterPlace, IsReadFromAStepOfSlurm) {
  const ClusterPlace node = place({}, kSlurm).value();
  EXPECT_EQ(node.machines, 4);
  EXPECT_EQ(node.machine, "node-2");
  EXPECT_EQ(node.number, 2);
  EXPECT_EQ(node.launch, "slurm-77.1.0");
  EXPECT_EQ(node.slurm_job, "77");
  EXPECT_EQ(node.store, "/shared/out/store");
  const ClusterPlace spare = place({.spares = 1}, kSlurm).value();
  EXPECT_EQ(spare.machines, 3);
  EXPECT_EQ(spare.spares, 1);
  Variables tasks = kSlurm;
  tasks["SLURM_STEP_NUM_TASKS"] = "32";
  EXPECT_THAT(place({}, tasks).status().message(), HasSubstr("--ntasks-per-node=1"));
  EXPECT_THAT(place({.machines = 3}, kSlurm).status().message(), HasSubstr("4 nodes"));
  EXPECT_THAT(place({.spares = 4}, kSlurm).status().message(), HasSubstr("no machine"));
}

}  // namespace
}  // namespace colossus
