#include "device/cpu/lane_waits.h"

#include <gtest/gtest.h>

namespace colossus {
namespace {

// receive, all_gather of what came, all_gather of a parameter's piece, a product that reads the first gathered.
struct Lanes {
  Program program;
  LaneOrder order;

  Lanes() {
    const auto tensor = [&](const char* name, Shape shape, Role role) {
      program.tensors.push_back({.name = name, .type = {std::move(shape), DType::kF32}, .role = role});
      return TensorId{static_cast<int32_t>(program.tensors.size()) - 1};
    };
    const RankGroup pair = RankGroup::along({MeshAxis::kTensor});
    const TensorId came = tensor("came", {2, 4}, Role::kActivation), piece = tensor("piece", {2, 4}, Role::kInput),
                   whole = tensor("whole", {4, 4}, Role::kActivation), other = tensor("other", {4, 4}, Role::kOutput),
                   out = tensor("out", {4, 4}, Role::kOutput);
    const auto gather = [&](TensorId from, TensorId into) {
      AllGather op;
      op.group = pair;
      op.ranks = 2;
      program.operations.push_back({op, {from}, {into}, "", Phase::kForward});
    };
    program.operations.push_back(
        {Receive{{.group = RankGroup::to(Link::kFromPrevious)}, {2, 4}, DType::kF32}, {}, {came}, "", Phase::kForward});
    gather(came, whole);
    gather(piece, other);
    program.operations.push_back({Scale{.factor = 2}, {whole}, {out}, "", Phase::kForward});
    order = order_lanes(program);
  }
};

TEST(LaneWaits, WhatAGatherIsLateForIsNotItsOwnTime) {
  const Lanes lanes;
  LaneWaits waits(lanes.program, lanes.order);
  waits.begin_run();
  waits.set_times(0, 10, 17);
  waits.set_times(1, 17, 18);
  ASSERT_EQ(lanes.order.waits[3], std::vector<int>{1});
  waits.stood_still_for(lanes.order.waits[3], 11, 18.5);
  EXPECT_DOUBLE_EQ(waits.seconds(Link::kFromPrevious), 6);
  EXPECT_DOUBLE_EQ(waits.seconds(Link::kNone), 1.5);
  waits.begin_run();
  EXPECT_EQ(waits.seconds(Link::kFromPrevious), 0);
}

// The second gather reads nothing that comes, but is behind the first one on its lane.
TEST(LaneWaits, NorIsWhatTheLaneIsLateFor) {
  const Lanes lanes;
  LaneWaits waits(lanes.program, lanes.order);
  waits.begin_run();
  waits.set_times(0, 10, 17);
  waits.set_times(1, 17, 18);
  waits.set_times(2, 18, 20);
  waits.stood_still_for(std::vector{2}, 16, 20);
  EXPECT_DOUBLE_EQ(waits.seconds(Link::kFromPrevious), 1);
  EXPECT_DOUBLE_EQ(waits.seconds(Link::kNone), 3);
  // Of several it is the one that was done last.
  waits.begin_run();
  waits.stood_still_for(std::vector{0, 2}, 19, 20);
  EXPECT_DOUBLE_EQ(waits.seconds(Link::kNone), 1);
  EXPECT_EQ(waits.seconds(Link::kFromPrevious), 0);
}

TEST(LaneWaits, TransfersOfEarlierRunsAreCountedToo) {
  const Lanes lanes;
  LaneWaits waits(lanes.program, lanes.order);
  waits.waited_for(Link::kToNext, 2);
  EXPECT_EQ(waits.seconds(Link::kToNext), 2);
}

}  // namespace
}  // namespace colossus
