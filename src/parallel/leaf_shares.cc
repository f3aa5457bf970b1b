#include "parallel/leaf_shares.h"

#include <bit>
#include <map>

#include "base/check.h"

namespace colossus {

std::vector<LeafRange> share_leaves(int64_t num_leaves, std::span<const LeafPace> paces) {
  CHECK(!paces.empty() && num_leaves >= static_cast<int64_t>(paces.size()), "every rank needs a leaf");
  std::vector<int64_t> count(paces.size(), 1);
  for (const LeafPace& pace : paces) CHECK(pace.per_leaf > 0 && pace.fixed >= 0, "a leaf takes time");
  // The next leaf goes where it is done first; of equals to the lowest rank.
  for (int64_t left = num_leaves - static_cast<int64_t>(paces.size()); left > 0; --left) {
    size_t best = 0;
    for (size_t i = 1; i < paces.size(); ++i)
      if (paces[i].time_of(count[i] + 1) < paces[best].time_of(count[best] + 1)) best = i;
    ++count[best];
  }
  std::vector<LeafRange> ranges;
  int64_t begin = 0;
  for (int64_t leaves : count) {
    ranges.push_back({begin, begin + leaves});
    begin += leaves;
  }
  return ranges;
}

std::vector<TreeNode> whole_subtrees(LeafRange range) {
  std::vector<TreeNode> nodes;
  for (int64_t leaf = range.begin; leaf < range.end;) {
    int level = leaf == 0 ? 62 : std::countr_zero(static_cast<uint64_t>(leaf));
    while (leaf + (int64_t{1} << level) > range.end) --level;
    nodes.push_back({level, leaf >> level});
    leaf += int64_t{1} << level;
  }
  return nodes;
}

std::vector<TreeAddition> tree_additions(std::span<const TreeNode> nodes) {
  std::vector<TreeAddition> additions;
  // Left siblings that wait, as in a binary counter.
  struct Waiting {
    TreeNode node;
    int slot;
  };
  std::vector<Waiting> waiting;
  for (size_t i = 0; i < nodes.size(); ++i) {
    Waiting sum = {nodes[i], static_cast<int>(i)};
    while (!waiting.empty() && waiting.back().node.level == sum.node.level && sum.node.index % 2 == 1) {
      CHECK(waiting.back().node.index == sum.node.index - 1, "the nodes leave a gap");
      additions.push_back({waiting.back().slot, sum.slot});
      sum = {{sum.node.level + 1, sum.node.index / 2}, waiting.back().slot};
      waiting.pop_back();
    }
    waiting.push_back(sum);
  }
  CHECK(waiting.size() == 1 && waiting.front().node.index == 0, "the nodes do not make up a whole tree");
  return additions;
}

std::vector<TreeAddition> term_additions(std::span<const LeafTerm> terms) {
  struct Term {
    std::vector<TreeNode> nodes;
    std::vector<int> slots;
  };
  std::map<int64_t, Term> by_term;
  int num_slots = 0;
  for (const LeafTerm& part : terms)
    for (const TreeNode& node : whole_subtrees(part.leaves)) {
      by_term[part.term].nodes.push_back(node);
      by_term[part.term].slots.push_back(num_slots++);
    }
  std::vector<TreeAddition> additions;
  for (const auto& [number, term] : by_term)
    for (const TreeAddition& addition : tree_additions(term.nodes))
      additions.push_back(
          {term.slots[static_cast<size_t>(addition.into)], term.slots[static_cast<size_t>(addition.from)]});
  const int sum = by_term.begin()->second.slots.front();
  CHECK(sum == 0, "the first of the terms is not the lowest");
  for (const auto& [number, term] : by_term)
    if (term.slots.front() != sum) additions.push_back({sum, term.slots.front()});
  return additions;
}

}  // namespace colossus
