#include "train/run_times.h"

#include <gtest/gtest.h>

#include <map>

namespace colossus {
namespace {

// Runs nothing: it waited.
class Waiting final : public Executable {
 public:
  explicit Waiting(std::map<Link, double> waited) : waited_(std::move(waited)) {}
  const Program& program() const override { return program_; }
  const MemoryPlan& memory_plan() const override { return plan_; }
  Status load() override { return ok_status(); }
  void bind(TensorId, std::shared_ptr<DeviceMemory>, int64_t) override {}
  Status run() override { return ok_status(); }
  void read_output(TensorId, std::span<std::byte>) override {}
  double waited_seconds(Link link) const override {
    const auto found = waited_.find(link);
    return found == waited_.end() ? 0 : found->second;
  }
  std::span<const OperationTime> operation_times() const override { return {}; }
  int64_t packed_bytes() const override { return 0; }

 private:
  const std::map<Link, double> waited_;
  Program program_;
  MemoryPlan plan_;
};

TEST(RunTimes, WhatOthersLetItWaitForIsNotItsOwn) {
  RunTimes times;
  times.add(Waiting({{Link::kNone, 2}, {Link::kFromPrevious, 4}, {Link::kToNext, 1}, {Link::kGradients, 8}}), 20);
  RankSeconds rank;
  ASSERT_TRUE(times.take(PipelineWork::kForward, rank));
  EXPECT_EQ(rank.all_work(), 7) << "its stage is late with it";
  EXPECT_EQ(rank.own, 5);
}

TEST(RunTimes, AreMediansThatAddUpOverPrograms) {
  RunTimes forward, backward;
  for (const double seconds : {1.0, 100.0, 2.0}) forward.add(Waiting({}), seconds);
  backward.add(Waiting({}), 5);
  RankSeconds rank;
  ASSERT_TRUE(forward.take(PipelineWork::kForward, rank));
  ASSERT_TRUE(backward.take(PipelineWork::kBackward, rank));
  EXPECT_EQ(rank.of_work[static_cast<size_t>(PipelineWork::kForward)], 2);
  EXPECT_EQ(rank.of_work[static_cast<size_t>(PipelineWork::kBackward)], 5);
  EXPECT_EQ(rank.own, 7);
  EXPECT_FALSE(forward.take(PipelineWork::kForward, rank)) << "they were taken";
  EXPECT_EQ(rank.own, 7);
}

}  // namespace
}  // namespace colossus
