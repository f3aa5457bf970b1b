// Which leaves of the gradient tree (docs/numerics.md) a data rank computes, what it hands on, and in which order the
// parts of all ranks are added. The order is that of one rank alone, whatever the shares: so neither the number of
// ranks nor their speeds change a bit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace colossus {

// Leaves [begin, end).
struct LeafRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const LeafRange&) const = default;
};

// How long a rank's part of a step takes, in any unit: so much for each leaf, and what a pipeline takes to fill and
// drain, however many leaves go through it.
struct LeafPace {
  double per_leaf = 1;  // above 0
  double fixed = 0;
  double time_of(int64_t leaves) const { return fixed + per_leaf * static_cast<double>(leaves); }
};

// Consecutive ranges for ranks of these paces, so that the last to finish finishes as early as it can; every rank gets
// a leaf. num_leaves >= paces.size().
std::vector<LeafRange> share_leaves(int64_t num_leaves, std::span<const LeafPace> paces);

// A whole subtree: leaves [index << level, (index + 1) << level).
struct TreeNode {
  int level = 0;
  int64_t index = 0;
  bool operator==(const TreeNode&) const = default;
};

// The fewest whole subtrees that make up a range, in order of their leaves: the partial sums a rank hands on. At most
// 2 * log2(num_leaves).
std::vector<TreeNode> whole_subtrees(LeafRange range);

// nodes[into] += nodes[from], in this order, gives the sum of all leaves in nodes[0]. `nodes`: of all ranks, in order
// of their leaves; together the whole tree of a power of two of leaves.
struct TreeAddition {
  int into = 0;
  int from = 0;
  bool operator==(const TreeAddition&) const = default;
};
std::vector<TreeAddition> tree_additions(std::span<const TreeNode> nodes);

// Sums over the same leaves that are added to one another: of ranks that share a model, or of two places in it. Each is
// added up along the tree, then one after the other, from the term of the lowest number: so the data axes have no part
// in the order, whatever other ranks add.
struct LeafTerm {
  int64_t term = 0;
  LeafRange leaves;  // of which somebody has this term's sums
};
// nodes[0] is the sum; `nodes` are whole_subtrees of each of `terms`, one after the other. The first of `terms` has the
// first leaf of the lowest term; of each term there are all leaves, in order.
std::vector<TreeAddition> term_additions(std::span<const LeafTerm> terms);

}  // namespace colossus
