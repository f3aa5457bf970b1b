#include "device/cpu/cpu_kernel.h"
#include "ops/pieces/pieces.h"

namespace colossus {

// Sums of gradients are fp32 wherever they are taken: their order and rounding are part of what is meant.
template <>
void run_reference(const TreeSum& op, const ReferenceCall& call) {
  const View &nodes = call.input(TreeSum::kNodes), &sum = call.input(TreeSum::kSum);
  const int64_t num_nodes = nodes.shape[0], size = nodes.shape[1];
  std::vector<float> node(static_cast<size_t>(num_nodes));
  for (int64_t e = 0; e < size; ++e) {
    for (int64_t i = 0; i < num_nodes; ++i) node[static_cast<size_t>(i)] = static_cast<float>(nodes.get(i * size + e));
    for (size_t i = 0; i < op.additions.size(); i += 2)
      node[static_cast<size_t>(op.additions[i])] += node[static_cast<size_t>(op.additions[i + 1])];
    sum.set(e, static_cast<double>(node[0]));
  }
}

}  // namespace colossus
