#include "train/gradient_tree.h"

namespace colossus {

Result<GradientTree> GradientTree::create(Device& device, const TensorSet& tensors, int64_t num_leaves) {
  CHECK(num_leaves >= 1 && (num_leaves & (num_leaves - 1)) == 0);
  GradientTree tree;
  tree.device_ = &device;
  tree.num_leaves_ = num_leaves;
  for (const auto& [name, entry] : tensors.entries()) {
    if (entry.role != Role::kGradient) continue;
    tree.work_.push_back(entry.memory);
    tree.num_floats_.push_back(entry.type.shape.num_elements());
  }
  for (int64_t leaves = 1; leaves < num_leaves; leaves *= 2) {
    Memories level;
    for (const auto& memory : tree.work_) {
      ASSIGN_OR_RETURN(auto partial, device.allocate(memory->num_bytes()));
      level.push_back(std::move(partial));
    }
    tree.partial_.push_back(std::move(level));
  }
  return tree;
}

void GradientTree::begin_step() { leaves_done_ = 0; }

void GradientTree::begin_leaf() {
  for (const auto& memory : work_) device_->zero(*memory);
}

void GradientTree::end_leaf() {
  // A set bit l of the number of leaves done before says that partial_[l] waits.
  size_t level = 0;
  for (; (leaves_done_ >> level & 1) != 0; ++level)
    for (size_t i = 0; i < work_.size(); ++i) device_->add(*work_[i], *partial_[level][i], num_floats_[i]);
  ++leaves_done_;
  if (leaves_done_ == num_leaves_) return;
  for (size_t i = 0; i < work_.size(); ++i) device_->copy(*partial_[level][i], *work_[i]);
}

int64_t GradientTree::num_bytes() const {
  int64_t bytes = 0;
  for (const Memories& level : partial_)
    for (const auto& memory : level) bytes += memory->num_bytes();
  return bytes;
}

}  // namespace colossus
