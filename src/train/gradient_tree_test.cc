#include "train/gradient_tree.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "device/cpu/cpu_device.h"
#include "program/builder.h"

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

class GradientTreeTest : public testing::TestWithParam<int64_t> {};

TEST_P(GradientTreeTest, AddsLeavesAlongABinaryTree) {
  constexpr size_t kSize = 61;
  constexpr int64_t kMicrobatches = 3;
  const int64_t num_leaves = GetParam();
  const auto device = *make_cpu_device({.num_threads = 2});
  Builder b("gradients");
  b.declare("grad.w", {{static_cast<int64_t>(kSize)}, DType::kF32}, Role::kGradient);
  b.parameter("w", {static_cast<int64_t>(kSize)});
  TensorSet tensors;
  ASSERT_TRUE(tensors.add_all(*device, *b.finish()).ok());
  auto tree = GradientTree::create(*device, tensors, num_leaves);
  ASSERT_TRUE(tree.ok());
  int64_t levels = 0;
  while ((int64_t{1} << levels) < num_leaves) ++levels;
  EXPECT_EQ(tree->num_bytes(), levels * static_cast<int64_t>(4 * kSize));

  DeviceMemory& gradient = *tensors.at("grad.w").memory;
  const Values expected = tree_sum(0, num_leaves, kMicrobatches, kSize);
  for (int step = 0; step < 2; ++step) {  // the second step sees nothing of the first
    tree->begin_step();
    for (int64_t leaf = 0; leaf < num_leaves; ++leaf) {
      tree->begin_leaf();
      for (int64_t m = 0; m < kMicrobatches; ++m) {
        Values values(kSize);
        device->read(gradient, 0, std::as_writable_bytes(std::span(values)));
        for (size_t i = 0; i < kSize; ++i) values[i] += contribution(leaf, m, i);
        device->write(gradient, 0, std::as_bytes(std::span(values)));
      }
      tree->end_leaf();
    }
    Values sum(kSize);
    device->read(gradient, 0, std::as_writable_bytes(std::span(sum)));
    EXPECT_EQ(sum, expected) << "step " << step;
  }
  if (num_leaves < 4) return;
  // The test can tell: one leaf after the other would give other bits.
  Values in_a_row(kSize, 0);
  for (int64_t leaf = 0; leaf < num_leaves; ++leaf) {
    const Values term = leaf_sum(leaf, kMicrobatches, kSize);
    for (size_t i = 0; i < kSize; ++i) in_a_row[i] += term[i];
  }
  EXPECT_NE(in_a_row, expected);
}

INSTANTIATE_TEST_SUITE_P(Leaves, GradientTreeTest, testing::Values(1, 2, 4, 8, 16));

}  // namespace
}  // namespace colossus
