#include "train/leaf_balance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

const std::vector<LeafRange> kEqual = {{0, 4}, {4, 8}};

std::vector<LeafPace> paces_of(const std::vector<double>& seconds) {
  std::vector<LeafPace> paces;
  for (const double each : seconds) paces.push_back({.per_leaf = each});
  return paces;
}

std::vector<int64_t> ranks_of(const std::vector<Straggler>& slow) {
  std::vector<int64_t> ranks;
  for (const Straggler& each : slow) ranks.push_back(each.rank);
  return ranks;
}

// Each takes so long forward, and twice as long backward.
std::vector<RankSeconds> measured(const std::vector<double>& forward) {
  std::vector<RankSeconds> ranks;
  for (const double seconds : forward) {
    RankSeconds& rank = ranks.emplace_back();
    rank.of_work[static_cast<size_t>(PipelineWork::kForward)] = seconds;
    rank.of_work[static_cast<size_t>(PipelineWork::kBackward)] = 2 * seconds;
    rank.own = 3 * seconds;
  }
  return ranks;
}

// All that balance() of a step does, but for the exchange of times and machines.
std::string note_of(const Mesh& mesh, const std::vector<LeafRange>& now, const std::vector<RankSeconds>& ranks,
                    std::vector<std::string> machines = {}) {
  machines.resize(ranks.size());
  LeafBalance balance;
  if (reason_for_equal_shares(mesh.config()).empty())
    balance = balance_leaves(now.back().end, now, paces_of_data_ranks(mesh, ranks, now, 1));
  return balance_note(mesh, now, balance, find_stragglers(mesh, ranks), machines);
}

TEST(LeafBalance, TheSlowOneGetsFewerLeaves) {
  const auto paces = paces_of({1, 3});
  const LeafBalance balance = balance_leaves(8, kEqual, paces);
  ASSERT_TRUE(balance.leaves);
  EXPECT_THAT(*balance.leaves, ElementsAre(LeafRange{0, 6}, LeafRange{6, 8}));
  EXPECT_EQ(note_of(Mesh({.data = 2}), kEqual, measured({1, 3})),
            "data rank 1 takes 3.00 times as long for a microbatch as the others: it gets 2 of 8 leaves");
  // The same figures again change nothing more.
  EXPECT_FALSE(balance_leaves(8, *balance.leaves, paces).leaves);
  EXPECT_THAT(note_of(Mesh({.data = 2}), *balance.leaves, measured({1, 3})), HasSubstr("it keeps 2 of 8 leaves"));
}

TEST(LeafBalance, ATenthIsNothing) {
  const LeafBalance balance = balance_leaves(8, kEqual, paces_of({1, 1.09}));
  EXPECT_FALSE(balance.leaves);
  EXPECT_THAT(balance.slow, IsEmpty());
  EXPECT_EQ(note_of(Mesh({.data = 2}), kEqual, measured({1, 1.09})), "");
}

TEST(LeafBalance, WhereLeavesAreFewTheSlowOneIsOnlyNamed) {
  const std::vector<LeafRange> one_each = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  EXPECT_FALSE(balance_leaves(4, one_each, paces_of({1, 1, 1.5, 1})).leaves);
  EXPECT_EQ(note_of(Mesh({.shard = 4}), one_each, measured({1, 1, 1.5, 1})),
            "data rank 2 takes 1.50 times as long for a microbatch as the others: it keeps 1 of 4 leaves");
}

TEST(LeafBalance, GoesBackWhenAllAreEquallyFast) {
  const std::vector<LeafRange> shifted = {{0, 6}, {6, 8}};
  const LeafBalance balance = balance_leaves(8, shifted, paces_of({1, 1}));
  ASSERT_TRUE(balance.leaves);
  EXPECT_EQ(*balance.leaves, kEqual);
  EXPECT_THAT(note_of(Mesh({.data = 2}), shifted, measured({1, 1})), HasSubstr("equally fast again"));
}

TEST(LeafBalance, OneRankHasNobodyToShareWith) {
  const std::vector<LeafRange> all = {{0, 8}};
  EXPECT_FALSE(balance_leaves(8, all, paces_of({2})).leaves);
}

// Ranks 0 and 1 have the first stage, 2 and 3 the last. Stages are not equally long, and that is nobody's fault.
TEST(LeafBalance, APipelineIsAsFastAsItsSlowestStage) {
  for (const auto kind : {PipelineScheduleKind::kOneForwardOneBackward, PipelineScheduleKind::kZeroBubble}) {
    const Mesh mesh({.data = 2, .pipeline = 2, .schedule = kind});
    EXPECT_EQ(note_of(mesh, kEqual, measured({1, 1, 2, 2})), "");
    EXPECT_EQ(note_of(mesh, kEqual, measured({1, 1, 1, 3}), {"a", "a", "b", "c"}),
              "data rank 1 takes 3.00 times as long for a microbatch as the others, because of rank 3 (stage 1, on c): "
              "it gets 2 of 8 leaves");
  }
}

TEST(LeafBalance, WhatAPipelineTakesToFillIsNotShared) {
  const Mesh mesh({.data = 2, .pipeline = 4});
  const auto ranks = measured({1, 2, 1, 2, 1, 2, 1, 2});
  const auto paces = paces_of_data_ranks(mesh, ranks, kEqual, 2);
  // Of a microbatch 3; twice as many to a leaf; three stages before the last are filled and drained.
  EXPECT_DOUBLE_EQ(paces[0].per_leaf, 6);
  EXPECT_DOUBLE_EQ(paces[0].fixed, 9);
  EXPECT_DOUBLE_EQ(paces[1].per_leaf, 12);
  EXPECT_DOUBLE_EQ(paces[1].fixed, 18);
  const Mesh chunks({.data = 2, .pipeline = 4, .chunks = 2, .schedule = PipelineScheduleKind::kInterleaved});
  EXPECT_DOUBLE_EQ(paces_of_data_ranks(chunks, ranks, kEqual, 2)[0].fixed, 4.5);
}

// The first stage of data rank 1 takes twice as long as that of data rank 0.
TEST(LeafBalance, AStragglerIsNamedOnceItHoldsSomebodyUp) {
  const Mesh mesh({.data = 2, .pipeline = 2});
  EXPECT_EQ(note_of(mesh, kEqual, measured({1, 2, 4, 4})), "") << "its last stage takes twice as long again";
  EXPECT_EQ(note_of(mesh, kEqual, measured({2, 4, 4, 4})),
            "rank 1 (stage 0) takes 2.00 times as long for a microbatch as the others of its stage");
}

// They all wait for it, so nothing but what each does itself tells who it is.
TEST(LeafBalance, TheSlowOneIsNamedWhereSharesStayEqual) {
  const std::vector<LeafRange> now = {{0, 2}, {2, 4}, {4, 6}, {6, 8}};
  EXPECT_THAT(note_of(Mesh({.shard = 4, .expert = 4}), now, measured({1, 1, 1.5, 1}), {"a", "b", "c", "d"}),
              "rank 2 (on c) takes 1.50 times as long for a microbatch as the others (or its experts get more tokens); "
              "data ranks keep equal shares of the leaves, for their experts see the tokens of all data ranks at once");
  EXPECT_THAT(note_of(Mesh({.shard = 4, .zero_stage = 3}), now, measured({1, 1, 1.5, 1})),
              AllOf(HasSubstr("rank 2 takes 1.50 times"), HasSubstr("with zero_stage = 3"), Not(HasSubstr("experts"))));
  EXPECT_EQ(note_of(Mesh({.tensor = 2}), {{0, 8}}, measured({1, 1.5})),
            "rank 1 takes 1.50 times as long for a microbatch as the others");
}

TEST(LeafBalance, OfSeveralStragglersAllAreFound) {
  const Mesh mesh({.data = 2, .tensor = 3});
  EXPECT_THAT(ranks_of(find_stragglers(mesh, measured({1, 2, 1, 1, 1.09, 3}))), ElementsAre(1, 5));
}

}  // namespace
}  // namespace colossus
