#include "train/gradient_tree.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "device/cpu/cpu_device.h"

namespace colossus {
namespace {

// Sizes far apart, so that every other order of additions rounds to other bits.
float contribution(int64_t leaf, int64_t microbatch, size_t i) {
  const RngKey key{.seed = 5, .purpose = RngPurpose::kTest, .step = static_cast<uint64_t>(100 * leaf + microbatch)};
  return random_normal(key, 2 * i) * std::exp2f(8 * random_uniform(key, 2 * i + 1));
}

using Values = std::vector<float>;

Values leaf_sum(int64_t leaf, int64_t num_microbatches, size_t size) {
  Values sum(size, 0);
  for (int64_t m = 0; m < num_microbatches; ++m)
    for (size_t i = 0; i < size; ++i) sum[i] += contribution(leaf, m, i);
  return sum;
}

Values tree_sum(int64_t first, int64_t count, int64_t num_microbatches, size_t size) {
  if (count == 1) return leaf_sum(first, num_microbatches, size);
  Values left = tree_sum(first, count / 2, num_microbatches, size);
  const Values right = tree_sum(first + count / 2, count / 2, num_microbatches, size);
  for (size_t i = 0; i < size; ++i) left[i] += right[i];
  return left;
}

// A range of leaves, and how many there are in the whole tree.
struct Range {
  LeafRange leaves;
  int64_t depth;  // most sums that wait at once
};

class GradientTreeTest : public testing::TestWithParam<Range> {};

TEST_P(GradientTreeTest, AddsLeavesAlongABinaryTree) {
  constexpr size_t kSize = 61;
  constexpr int64_t kMicrobatches = 3;
  const LeafRange leaves = GetParam().leaves;
  const auto device = *make_cpu_device({.num_threads = 2});
  const std::vector<std::shared_ptr<DeviceMemory>> work = {*device->allocate(4 * kSize)};
  auto tree = GradientTree::create(*device, work, leaves);
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->num_bytes(), GetParam().depth * static_cast<int64_t>(4 * kSize));

  for (int step = 0; step < 2; ++step) {  // the second step sees nothing of the first
    tree->begin_step();
    for (int64_t leaf = leaves.begin; leaf < leaves.end; ++leaf) {
      tree->begin_leaf();
      for (int64_t m = 0; m < kMicrobatches; ++m) {
        Values values(kSize);
        device->read(*work[0], 0, std::as_writable_bytes(std::span(values)));
        for (size_t i = 0; i < kSize; ++i) values[i] += contribution(leaf, m, i);
        device->write(*work[0], 0, std::as_bytes(std::span(values)));
      }
      tree->end_leaf();
    }
    const std::vector<TreeNode> nodes = whole_subtrees(leaves);
    for (size_t n = 0; n < nodes.size(); ++n) {
      Values sum(kSize);
      device->read(n + 1 < nodes.size() ? *tree->partial(n)[0] : *work[0], 0, std::as_writable_bytes(std::span(sum)));
      const int64_t count = int64_t{1} << nodes[n].level;
      EXPECT_EQ(sum, tree_sum(nodes[n].index * count, count, kMicrobatches, kSize)) << "node " << n << " step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Leaves, GradientTreeTest,
                         testing::Values(Range{{0, 1}, 0}, Range{{0, 2}, 1}, Range{{0, 4}, 2}, Range{{0, 16}, 4},
                                         Range{{1, 7}, 3}, Range{{5, 6}, 0}, Range{{3, 8}, 3}, Range{{8, 16}, 3},
                                         Range{{0, 5}, 2}));

// The test above can tell: one leaf after the other gives other bits.
TEST(GradientTree, TheOrderMatters) {
  Values in_a_row(61, 0);
  for (int64_t leaf = 0; leaf < 4; ++leaf) {
    const Values term = leaf_sum(leaf, 3, 61);
    for (size_t i = 0; i < 61; ++i) in_a_row[i] += term[i];
  }
  EXPECT_NE(in_a_row, tree_sum(0, 4, 3, 61));
}

}  // namespace
}  // namespace colossus
