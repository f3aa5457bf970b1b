#include "train/gradient_tree.h"

#include <algorithm>

namespace colossus {
namespace {

// Can `node` be added to the sum that waits before it? The two are then children of one node.
bool completes(const std::vector<TreeNode>& waiting, const TreeNode& node) {
  return !waiting.empty() && node.index % 2 == 1 && waiting.back() == TreeNode{node.level, node.index - 1};
}

TreeNode parent_of(const TreeNode& node) { return {node.level + 1, node.index / 2}; }

size_t most_waiting(LeafRange leaves) {
  std::vector<TreeNode> waiting;
  size_t most = 0;
  for (int64_t leaf = leaves.begin; leaf < leaves.end; ++leaf) {
    TreeNode node{0, leaf};
    for (; completes(waiting, node); node = parent_of(node)) waiting.pop_back();
    if (leaf + 1 < leaves.end) waiting.push_back(node);
    most = std::max(most, waiting.size());
  }
  return most;
}

}  // namespace

Result<GradientTree> GradientTree::create(Device& device, std::vector<std::shared_ptr<DeviceMemory>> work,
                                          LeafRange leaves) {
  CHECK(leaves.begin >= 0 && leaves.size() >= 1);
  GradientTree tree;
  tree.device_ = &device;
  tree.leaves_ = leaves;
  tree.work_ = std::move(work);
  tree.partial_.resize(most_waiting(leaves));
  for (Memories& partial : tree.partial_)
    for (const auto& memory : tree.work_) {
      ASSIGN_OR_RETURN(auto allocated, device.allocate(memory->num_bytes()));
      partial.push_back(std::move(allocated));
    }
  return tree;
}

void GradientTree::begin_step() {
  waiting_.clear();
  next_leaf_ = leaves_.begin;
}

void GradientTree::begin_leaf() {
  for (const auto& memory : work_) device_->zero(*memory);
}

void GradientTree::end_leaf() {
  TreeNode node{0, next_leaf_++};
  for (; completes(waiting_, node); node = parent_of(node)) {
    const Memories& left = partial_[waiting_.size() - 1];
    for (size_t i = 0; i < work_.size(); ++i) device_->add(*work_[i], *left[i], work_[i]->num_bytes() / 4);
    waiting_.pop_back();
  }
  if (next_leaf_ == leaves_.end) return;
  const Memories& place = partial_[waiting_.size()];
  for (size_t i = 0; i < work_.size(); ++i) device_->copy(*place[i], *work_[i]);
  waiting_.push_back(node);
}

int64_t GradientTree::num_bytes() const {
  int64_t bytes = 0;
  for (const Memories& partial : partial_)
    for (const auto& memory : partial) bytes += memory->num_bytes();
  return bytes;
}

}  // namespace colossus
