// The one order in which gradients of a step are summed (docs/numerics.md): microbatches of a leaf are added in order
// into the gradient tensors; leaves are added along a fixed binary tree, like carries of a binary counter:
//   leaf 0 + leaf 1, leaf 2 + leaf 3, their sum, ... whoever computed them.
// A rank has consecutive leaves and adds up the whole subtrees among them.
#pragma once

#include <memory>
#include <vector>

#include "device/device.h"
#include "parallel/leaf_shares.h"

namespace colossus {

class GradientTree {
 public:
  // Sums `work`, fp32 memories, over the leaves of a range. Takes memory for the sums that must wait, at most
  // log2(leaves) of them at once for a range that is a whole tree, twice as many for others.
  static Result<GradientTree> create(Device& device, std::vector<std::shared_ptr<DeviceMemory>> work, LeafRange leaves);

  void begin_step();
  void begin_leaf();  // the work memories are zero
  void end_leaf();

  // What a leaf is summed in.
  const std::vector<std::shared_ptr<DeviceMemory>>& work() const { return work_; }
  // After the last leaf: the sums of whole_subtrees(leaves), the last of them in the work memories, those before it in
  // partial(0), partial(1), ...
  const std::vector<std::shared_ptr<DeviceMemory>>& partial(size_t i) const { return partial_[i]; }
  size_t num_partial() const { return partial_.size(); }
  int64_t num_bytes() const;

 private:
  using Memories = std::vector<std::shared_ptr<DeviceMemory>>;

  Device* device_ = nullptr;
  LeafRange leaves_;
  Memories work_;
  std::vector<Memories> partial_;  // as deep as it gets
  std::vector<TreeNode> waiting_;  // what partial_[0], ... hold now
  int64_t next_leaf_ = 0;
};

}  // namespace colossus
