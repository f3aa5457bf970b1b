#include "device/cpu/cpu_kernel.h"
#include "ops/pieces/pieces.h"

namespace colossus {

// Sums of gradients are fp32 wherever they are taken: their order and rounding are part of what is meant.
template <>
void run_reference(const TreeSum& op, const ReferenceCall& call) {
  const View& sum = call.input(TreeSum::kSum);
  const int64_t size = sum.shape[-1], num_sums = sum.shape.rank() == 1 ? 1 : sum.shape[0];
  std::vector<float> node;
  for (int64_t e = 0; e < size; ++e) {
    node.clear();
    for (int i = TreeSum::kNodes; i < call.num_inputs(); ++i)
      for (int64_t row = 0; row < call.input(i).shape[0]; ++row)
        node.push_back(static_cast<float>(call.input(i).get(row * size + e)));
    for (size_t i = 0; i < op.additions.size(); i += 2)
      node[static_cast<size_t>(op.additions[i])] += node[static_cast<size_t>(op.additions[i + 1])];
    for (int64_t i = 0; i < num_sums; ++i) sum.set(i * size + e, static_cast<double>(node[static_cast<size_t>(i)]));
  }
}

}  // namespace colossus
