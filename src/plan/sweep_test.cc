#include "plan/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/small_question.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SweepQuestion sweep_of(const std::vector<std::string>& axes, const std::vector<std::string>& layout = {}) {
  SweepQuestion sweep{.question = small_question(Family::kLlama), .layout = layout, .axes = {}};
  for (const std::string& text : axes) {
    auto axis = read_sweep_axis(text);
    EXPECT_TRUE(axis.ok()) << axis.status().message();
    if (axis.ok()) sweep.axes.push_back(*axis);
  }
  return sweep;
}
std::vector<SweepPoint> points_of(const SweepQuestion& sweep) {
  auto points = play_sweep(sweep, ready_calibration(), {});
  EXPECT_TRUE(points.ok()) << points.status().message();
  return points.ok() ? std::move(*points) : std::vector<SweepPoint>();
}
std::string refused(const SweepQuestion& sweep) {
  return play_sweep(sweep, ready_calibration(), {}).status().message();
}

TEST(Sweep, AxesAreRead) {
  const auto axis = read_sweep_axis("network.nic_gb_per_second=25,50");
  ASSERT_TRUE(axis.ok());
  EXPECT_EQ(axis->name, "network.nic_gb_per_second");
  EXPECT_THAT(axis->values, ElementsAre("25", "50"));
  for (const char* bad : {"tensor", "=1", "tensor=", "tensor=1,,2", "tensor=1,2,", "tensor=1,1"})
    EXPECT_THAT(read_sweep_axis(bad).status().message(), HasSubstr(std::string("[--sweep] ") + bad)) << bad;
}

// The last axis is the fastest; what is not legal keeps its row and says why.
TEST(Sweep, EveryCombinationIsThere) {
  const std::vector<SweepPoint> points = points_of(sweep_of({"tensor=1,3,4", "microbatch=1,2"}));
  ASSERT_EQ(points.size(), 6u);
  EXPECT_THAT(points[1].values, ElementsAre("1", "2"));
  EXPECT_THAT(points[4].values, ElementsAre("4", "1"));
  for (const size_t i : {0, 1, 4, 5}) {
    EXPECT_EQ(points[i].refused, "");
    ASSERT_TRUE(points[i].judged);
    EXPECT_EQ(points[i].judged->num_gpus, 16) << "ranks that no axis takes go to shard";
  }
  EXPECT_EQ(points[4].judged->layout.mesh.tensor, 4);
  EXPECT_EQ(points[4].judged->layout.mesh.shard, 4);
  EXPECT_EQ(points[5].judged->layout.microbatch, 2);
  EXPECT_THAT(points[2].refused, HasSubstr("3 does not divide"));
  EXPECT_FALSE(points[2].judged);
}

TEST(Sweep, APointIsWhatJudgeSays) {
  const SweepQuestion sweep = sweep_of({"pipeline=2"}, {"tensor=2", "shard=4"});
  const std::vector<SweepPoint> points = points_of(sweep);
  const Layout layout =
      *read_layout(sweep.question, "x", std::vector<std::string>{"tensor=2", "shard=4", "pipeline=2"});
  EXPECT_EQ(points[0].judged->time.seconds, judge(sweep.question, ready_calibration(), layout)->time.seconds);
}

TEST(Sweep, TheQuestionAndTheClusterAreAxesToo) {
  const std::vector<std::string> layout = {"tensor=2", "shard=8"};
  const auto by_nic = points_of(sweep_of({"network.nic_gb_per_second=5,50"}, layout));
  EXPECT_GT(by_nic[0].judged->time.seconds, by_nic[1].judged->time.seconds * 1.01);
  EXPECT_EQ(points_of(sweep_of({"recovery.start_seconds=1,2"}, layout))[0].refused, "") << "ranges bind no sweep";
  const auto by_sequence = points_of(sweep_of({"seq=512,2k"}, layout));
  EXPECT_EQ(by_sequence[0].judged->layout.tokens, 512);
  EXPECT_EQ(by_sequence[1].judged->layout.tokens, 2000);
  const auto by_batch = points_of(sweep_of({"batch_tokens=64k,256k"}, layout));
  EXPECT_EQ(by_batch[1].judged->layout.batch, 248) << "nearest to 250 sequences of 1,024 that 8 ranks share";
  const auto by_type = points_of(sweep_of({"dtype=bf16,fp8,fp4,int8"}, layout));
  EXPECT_NE(by_type[1].judged->time.seconds, by_type[0].judged->time.seconds);
  EXPECT_THAT(by_type[2].refused, HasSubstr("has no units for it"));
  EXPECT_THAT(by_type[3].refused, HasSubstr("needed f32, bf16, fp8 or fp4"));
  const auto by_gpus = points_of(sweep_of({"gpus=8,16,100000"}));
  EXPECT_EQ(by_gpus[0].judged->num_gpus, 8) << "without a layout's axis the best layout is searched for";
  EXPECT_EQ(by_gpus[1].judged->num_gpus, 16);
  EXPECT_THAT(by_gpus[2].refused, HasSubstr("has 1016"));
}

TEST(Sweep, WhatDoesNotFitIsRefusedWithItsNumbers) {
  SweepQuestion sweep = sweep_of({"pools[h100].gpu.memory_gb=1,80"}, {"shard=8"});
  const auto points = points_of(sweep);
  EXPECT_THAT(points[0].refused, HasSubstr("does not fit: "));
  ASSERT_TRUE(points[0].judged);
  EXPECT_GT(points[0].judged->memory.total(), 1e9);
  EXPECT_EQ(points[1].refused, "");
}

TEST(Sweep, WhatIsNoQuestionIsRefusedAsAWhole) {
  EXPECT_THAT(refused(sweep_of({"tensr=1,2"})), HasSubstr("did you mean tensor?"));
  EXPECT_THAT(refused(sweep_of({"network.nic_gb_per_secnd=1"})), HasSubstr("did you mean network.nic_gb_per_second?"));
  EXPECT_THAT(refused(sweep_of({"auto=1"})), HasSubstr("auto is no axis"));
  EXPECT_THAT(refused(sweep_of({"tensor=1", "tensor=2"})), HasSubstr("tensor is there twice"));
  SweepQuestion large = sweep_of({});
  for (const char* name : {"tensor", "context", "pipeline", "microbatch"}) {
    SweepAxis axis{.name = name, .values = {}};
    for (int i = 1; i <= 11; ++i) axis.values.push_back(std::to_string(i));
    large.axes.push_back(axis);
  }
  EXPECT_THAT(refused(large), HasSubstr("more than 10000 combinations"));
}

}  // namespace
}  // namespace colossus
