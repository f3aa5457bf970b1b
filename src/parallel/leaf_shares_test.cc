#include "parallel/leaf_shares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/rng.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;

std::vector<LeafPace> paces_of(const std::vector<double>& speeds) {
  std::vector<LeafPace> paces;
  for (const double speed : speeds) paces.push_back({.per_leaf = 1 / speed});
  return paces;
}

TEST(LeafShares, EqualSpeedsGetEqualShares) {
  EXPECT_THAT(share_leaves(8, paces_of({1, 1, 1, 1})),
              ElementsAre(LeafRange{0, 2}, LeafRange{2, 4}, LeafRange{4, 6}, LeafRange{6, 8}));
  EXPECT_THAT(share_leaves(8, paces_of({1, 1, 1})), ElementsAre(LeafRange{0, 3}, LeafRange{3, 6}, LeafRange{6, 8}));
}

TEST(LeafShares, FollowSpeeds) {
  EXPECT_THAT(share_leaves(32, paces_of({1, 1, 2})), ElementsAre(LeafRange{0, 8}, LeafRange{8, 16}, LeafRange{16, 32}));
  // However slow, a rank gets one.
  EXPECT_THAT(share_leaves(8, paces_of({100, 1})), ElementsAre(LeafRange{0, 7}, LeafRange{7, 8}));
}

// A pipeline that is twice as slow is twice as slow to fill, too.
TEST(LeafShares, FollowWhatPassesBeforeTheFirstLeaf) {
  EXPECT_THAT(share_leaves(16, paces_of({2, 1})), ElementsAre(LeafRange{0, 11}, LeafRange{11, 16}));
  const std::vector<LeafPace> paces = {{.per_leaf = 1, .fixed = 3}, {.per_leaf = 2, .fixed = 6}};
  EXPECT_THAT(share_leaves(16, paces), ElementsAre(LeafRange{0, 12}, LeafRange{12, 16}));
}

// No other assignment ends earlier: all of them are tried.
TEST(LeafShares, FinishAsEarlyAsPossible) {
  for (uint64_t trial = 0; trial < 50; ++trial) {
    const auto draw = [&](uint64_t i) { return static_cast<double>(random_bits(RngKey{.seed = trial}, i) % 1000); };
    std::vector<LeafPace> paces;
    for (uint64_t i = 0; i < 3; ++i) paces.push_back({.per_leaf = 0.25 + draw(i) / 500, .fixed = draw(i + 3) / 200});
    const auto finish = [&](int64_t a, int64_t b, int64_t c) {
      return std::max({paces[0].time_of(a), paces[1].time_of(b), paces[2].time_of(c)});
    };
    double best = 1e30;
    for (int64_t a = 1; a <= 14; ++a)
      for (int64_t b = 1; a + b <= 15; ++b) best = std::min(best, finish(a, b, 16 - a - b));
    const auto shares = share_leaves(16, paces);
    EXPECT_DOUBLE_EQ(finish(shares[0].size(), shares[1].size(), shares[2].size()), best) << trial;
  }
}

TEST(LeafShares, RangesAreMadeOfWholeSubtrees) {
  EXPECT_THAT(whole_subtrees({0, 8}), ElementsAre(TreeNode{3, 0}));
  EXPECT_THAT(whole_subtrees({3, 8}), ElementsAre(TreeNode{0, 3}, TreeNode{2, 1}));
  EXPECT_THAT(whole_subtrees({1, 7}), ElementsAre(TreeNode{0, 1}, TreeNode{1, 1}, TreeNode{1, 2}, TreeNode{0, 6}));
  EXPECT_TRUE(whole_subtrees({5, 5}).empty());
}

// Sums as text show the order in which they were made.
std::string tree_text(int64_t begin, int64_t end) {
  if (end - begin == 1) return std::to_string(begin);
  const int64_t middle = (begin + end) / 2;
  return "(" + tree_text(begin, middle) + "+" + tree_text(middle, end) + ")";
}

TEST(LeafShares, EverySplitAddsInTheSameOrder) {
  for (int64_t num_leaves : {1, 2, 4, 8, 16, 32}) {
    const std::string alone = tree_text(0, num_leaves);
    for (int64_t ranks = 1; ranks <= num_leaves; ++ranks) {
      std::vector<double> speeds;
      for (int64_t i = 0; i < ranks; ++i) speeds.push_back(1 + static_cast<double>(i % 3));
      std::vector<TreeNode> nodes;
      std::vector<std::string> sums;
      for (const LeafRange& range : share_leaves(num_leaves, paces_of(speeds)))
        for (const TreeNode& node : whole_subtrees(range)) {
          nodes.push_back(node);
          sums.push_back(tree_text(node.index << node.level, (node.index + 1) << node.level));
        }
      for (const TreeAddition& a : tree_additions(nodes)) {
        const auto into = static_cast<size_t>(a.into), from = static_cast<size_t>(a.from);
        sums[into] = "(" + sums[into] + "+" + sums[from] + ")";
        sums[from] = "taken";
      }
      EXPECT_EQ(sums.front(), alone) << ranks << " ranks";
    }
  }
}

TEST(LeafSharesDeathTest, GapsAreOurMistake) {
  const std::vector<TreeNode> gap = {{1, 0}, {0, 3}};
  EXPECT_DEATH(tree_additions(gap), "");
  EXPECT_DEATH(share_leaves(2, paces_of({1, 1, 1})), "every rank needs a leaf");
}

}  // namespace
}  // namespace colossus
