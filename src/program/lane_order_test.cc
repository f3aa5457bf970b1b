#include "program/lane_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program/builder.h"
#include "program/memory_plan.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

AllReduce over(MeshAxis axis) { return {{.group = RankGroup::along({axis}), .ranks = 2}}; }

TEST(LaneOrder, ComputeWaitsForWhatItReads) {
  Builder b("p");
  const TensorId x = b.input("x", {1000}, DType::kF32);
  const TensorId a = b.emit(over(MeshAxis::kData), {x});    // 0
  const TensorId c = b.emit(over(MeshAxis::kTensor), {x});  // 1
  const TensorId y = b.emit(Scale{.factor = 2}, {x});       // 2: needs neither
  const TensorId z = b.emit(Add{}, {y, c});                 // 3
  b.mark_output(b.emit(Add{}, {z, a}), "sum");              // 4
  const LaneOrder order = order_lanes(*b.finish());
  EXPECT_THAT(order.waits[2], IsEmpty());
  EXPECT_THAT(order.waits[3], ElementsAre(1));
  EXPECT_THAT(order.waits[4], ElementsAre(0));
  EXPECT_THAT(order.done_by, ElementsAre(3, 2, 2, 3, 4));
}

TEST(LaneOrder, OneLaneNeedsNoWaitsAndIsKnownByItsLast) {
  Builder b("p");
  const TensorId x = b.input("x", {1000}, DType::kF32);
  const TensorId a = b.emit(over(MeshAxis::kData), {x});  // 0
  const TensorId c = b.emit(over(MeshAxis::kData), {a});  // 1
  const TensorId y = b.emit(Scale{.factor = 2}, {x});     // 2
  b.mark_output(b.emit(Add{}, {y, c}), "sum");            // 3
  b.mark_output(b.emit(Add{}, {y, a}), "other");          // 4: 1 is done, so 0 is
  const LaneOrder order = order_lanes(*b.finish());
  EXPECT_THAT(order.waits[1], IsEmpty());
  EXPECT_THAT(order.waits[3], ElementsAre(1));
  EXPECT_THAT(order.waits[4], IsEmpty());
  EXPECT_EQ(order.done_by[0], 2);
  EXPECT_EQ(order.done_by[1], 2);
}

TEST(LaneOrder, LanesWaitForEachOther) {
  Builder b("p");
  const TensorId x = b.input("x", {1000}, DType::kF32);
  const TensorId a = b.emit(over(MeshAxis::kData), {x});    // 0
  const TensorId c = b.emit(over(MeshAxis::kTensor), {a});  // 1 reads another lane's
  const TensorId y = b.emit(Scale{.factor = 2}, {x});       // 2
  b.mark_output(b.emit(Add{}, {y, c}), "sum");              // 3
  const LaneOrder order = order_lanes(*b.finish());
  EXPECT_THAT(order.waits[1], ElementsAre(0));
  EXPECT_EQ(order.done_by[0], 2);
  EXPECT_EQ(order.done_by[1], 2);
}

// A view is the memory of its base: whoever changes one waits for who reads the other, where they overlap.
TEST(LaneOrder, ViewsConflictWhereTheyOverlap) {
  Builder b("p");
  const TensorId flat = b.parameter("flat", {100});
  const TensorId low = b.view("low", {50}, flat, 0), high = b.view("high", {50}, flat, 50);
  const TensorId grad = b.input("grad", {50}, DType::kF32), lr = b.input("lr", {}, DType::kF32),
                 scale = b.input("scale", {}, DType::kF32), step = b.input("step", {}, DType::kI64);
  const TensorId m = b.declare("m", {{50}, DType::kF32}, Role::kOptimizerState),
                 v = b.declare("v", {{50}, DType::kF32}, Role::kOptimizerState);
  b.mark_output(b.emit(over(MeshAxis::kData), {low}), "sum");  // 0 reads low
  b.emit(AdamW{}, {high, grad, m, v, lr, step, scale});        // 1
  b.emit(AdamW{}, {low, grad, m, v, lr, step, scale});         // 2
  const auto program = b.finish();
  ASSERT_TRUE(verify(*program).ok()) << verify(*program).message();
  const LaneOrder order = order_lanes(*program);
  EXPECT_THAT(order.waits[1], IsEmpty());
  EXPECT_THAT(order.waits[2], ElementsAre(0));
}

// A send from a stash need not be done when the run is, unless something here waits for it.
TEST(LaneOrder, ASendFromAStashOutlivesTheRun) {
  const auto outlives = [](bool written_again) {
    Builder b("p");
    const TensorId x = b.input("x", {16}, DType::kF32);
    const TensorId stashed = b.emit(Scale{.factor = 2}, {x}), kept = b.emit(Scale{.factor = 3}, {x});
    b.emit(Send{{.group = RankGroup::to(Link::kToNext)}}, {stashed});   // 2
    b.emit(Send{{.group = RankGroup::to(Link::kToPrevious)}}, {kept});  // 3: from the arena
    const TensorId late = b.emit(Scale{.factor = 4}, {x});              // 4
    Program program = *b.finish();
    program.tensors.push_back({"stash", {{32}, DType::kF32}, Role::kStash});
    for (const auto& [id, offset] : {std::pair{stashed, 0}, std::pair{late, written_again ? 8 : 16}}) {
      program.tensor(id).role = Role::kStash;
      program.tensor(id).base = program.find("stash");
      program.tensor(id).offset = offset;
    }
    EXPECT_TRUE(verify(program).ok()) << verify(program).message();
    return order_lanes(program).outlives_run;
  };
  EXPECT_THAT(outlives(false), ElementsAre(0, 0, 1, 0, 0));
  EXPECT_THAT(outlives(true), ElementsAre(0, 0, 0, 0, 0));
}

// Nor a receive into one, unless something here reads what comes.
TEST(LaneOrder, AReceiveIntoAStashOutlivesTheRun) {
  const auto outlives = [](bool read) {
    Builder b("p");
    const Receive receive{{.group = RankGroup::to(Link::kFromNext)}, {16}, DType::kF32};
    const TensorId stashed = b.emit(receive, {});
    b.emit(receive, {});  // to the arena
    if (read) b.mark_output(b.emit(Scale{.factor = 2}, {stashed}), "y");
    Program program = *b.finish();
    program.tensor(stashed).role = Role::kStash;
    EXPECT_TRUE(verify(program).ok()) << verify(program).message();
    return order_lanes(program).outlives_run;
  };
  EXPECT_THAT(outlives(false), ElementsAre(1, 0));
  EXPECT_THAT(outlives(true), ElementsAre(0, 0, 0));
}

// What another lane reads keeps its place until the compute lane knows that it was read.
TEST(LaneOrder, MemoryIsKeptUntilTheLaneIsKnownToBeDone) {
  const auto arena = [](bool late) {
    Builder b("p");
    const TensorId x = b.input("x", {1 << 20}, DType::kF32);
    const TensorId t = b.emit(Scale{.factor = 2}, {x});
    const TensorId sum = b.emit(over(MeshAxis::kData), {t});
    if (!late) b.mark_output(b.emit(Scale{.factor = 1}, {sum}), "sum");
    TensorId y = b.emit(Scale{.factor = 3}, {x});
    for (int i = 0; i < 3; ++i) y = b.emit(Scale{.factor = 3}, {y});
    b.mark_output(y, "y");
    if (late) b.mark_output(b.emit(Scale{.factor = 1}, {sum}), "sum");
    return plan_memory(*b.finish()).arena_bytes;
  };
  EXPECT_EQ(arena(false), int64_t{3} * 4 << 20);
  EXPECT_EQ(arena(true), int64_t{4} * 4 << 20);
}

}  // namespace
}  // namespace colossus
