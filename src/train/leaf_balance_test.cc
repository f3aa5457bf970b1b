#include "train/leaf_balance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<LeafRange> kEqual = {{0, 4}, {4, 8}};

TEST(LeafBalance, TheSlowOneGetsFewerLeaves) {
  const std::vector<double> seconds = {1, 3};
  const LeafBalance balance = balance_leaves(8, kEqual, seconds);
  ASSERT_TRUE(balance.leaves);
  EXPECT_THAT(*balance.leaves, ElementsAre(LeafRange{0, 6}, LeafRange{6, 8}));
  EXPECT_THAT(balance.note,
              HasSubstr("data rank 1 takes 3.00 times as long for a microbatch as the others: it gets 2 of 8"));
  // The same figures again change nothing more.
  const LeafBalance again = balance_leaves(8, *balance.leaves, seconds);
  EXPECT_FALSE(again.leaves);
  EXPECT_THAT(again.note, HasSubstr("it keeps 2 of 8 leaves"));
}

TEST(LeafBalance, ATenthIsNothing) {
  const std::vector<double> seconds = {1, 1.09};
  const LeafBalance balance = balance_leaves(8, kEqual, seconds);
  EXPECT_FALSE(balance.leaves);
  EXPECT_EQ(balance.note, "");
}

TEST(LeafBalance, WhereLeavesAreFewTheSlowOneIsOnlyNamed) {
  const std::vector<LeafRange> one_each = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  const std::vector<double> seconds = {1, 1, 1.5, 1};
  const LeafBalance balance = balance_leaves(4, one_each, seconds);
  EXPECT_FALSE(balance.leaves);
  EXPECT_EQ(balance.note,
            "data rank 2 takes 1.50 times as long for a microbatch as the others: it keeps 1 of 4 leaves");
}

TEST(LeafBalance, GoesBackWhenAllAreEquallyFast) {
  const std::vector<LeafRange> shifted = {{0, 6}, {6, 8}};
  const std::vector<double> seconds = {1, 1};
  const LeafBalance balance = balance_leaves(8, shifted, seconds);
  ASSERT_TRUE(balance.leaves);
  EXPECT_EQ(*balance.leaves, kEqual);
}

TEST(LeafBalance, OneRankHasNobodyToShareWith) {
  const std::vector<LeafRange> all = {{0, 8}};
  const std::vector<double> seconds = {2};
  EXPECT_FALSE(balance_leaves(8, all, seconds).leaves);
}

}  // namespace
}  // namespace colossus
