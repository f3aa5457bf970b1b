// The one order in which gradients of a step are summed (docs/numerics.md): microbatches of a leaf are added in order
// into the gradient tensors; leaves are added along a fixed binary tree, like carries of a binary counter:
//   leaf 0 + leaf 1, leaf 2 + leaf 3, their sum, ... whoever computed them.
#pragma once

#include <string>
#include <vector>

#include "device/tensor_set.h"

namespace colossus {

class GradientTree {
 public:
  // Sums the tensors of role gradient in `tensors`; num_leaves is a power of two. Takes memory for log2(num_leaves)
  // partial sums.
  static Result<GradientTree> create(Device& device, const TensorSet& tensors, int64_t num_leaves);

  void begin_step();
  void begin_leaf();  // the gradient tensors are zero
  void end_leaf();    // after the last leaf they hold the sum of all
  int64_t num_bytes() const;

 private:
  using Memories = std::vector<std::shared_ptr<DeviceMemory>>;

  Device* device_ = nullptr;
  Memories work_;                  // the gradient tensors themselves
  std::vector<Memories> partial_;  // partial_[l]: the sum of 2^l leaves that waits for its sibling
  std::vector<int64_t> num_floats_;
  int64_t num_leaves_ = 1;
  int64_t leaves_done_ = 0;
};

}  // namespace colossus
