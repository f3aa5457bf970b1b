#include <algorithm>

#include "device/cpu/cpu_kernel.h"
#include "ops/pieces/pieces.h"

namespace colossus {
namespace {

// Elements whose nodes are added while they are in the cache.
constexpr int64_t kBlock = 1024;

void add_up(const std::vector<int64_t>& additions, float* nodes, int64_t count) {
  for (size_t i = 0; i < additions.size(); i += 2) {
    float* sum = nodes + additions[i] * kBlock;
    const float* term = nodes + additions[i + 1] * kBlock;
    for (int64_t e = 0; e < count; ++e) sum[e] += term[e];
  }
}

// Calls body(row) for each node, in order.
template <class Body>
void for_each_node(const CpuCall& call, Body body) {
  for (int i = TreeSum::kNodes; i < call.num_inputs(); ++i) {
    const View& nodes = call.input(i);
    for (int64_t node = 0; node < nodes.shape[0]; ++node) body(nodes.as<float>() + node * nodes.shape[1]);
  }
}

}  // namespace

template <>
void prepare_cpu(const TreeSum&, CpuPrepare& prepare) {
  int64_t num_nodes = 0;
  for (int i = TreeSum::kNodes; i < prepare.shapes.num_inputs(); ++i) num_nodes += prepare.shapes.shape(i)[0];
  prepare.workspace_bytes = prepare.num_threads * num_nodes * kBlock * static_cast<int64_t>(sizeof(float));
}

// A block's nodes are all copied before its sums are written: these may lie where nodes were.
template <>
void run_cpu(const TreeSum& op, const CpuCall& call) {
  const View& sum = call.input(TreeSum::kSum);
  const int64_t size = sum.shape[-1], num_sums = sum.shape.rank() == 1 ? 1 : sum.shape[0];
  const int64_t num_blocks = (size + kBlock - 1) / kBlock, num_threads = call.pool.num_threads();
  int64_t num_nodes = 0;
  for_each_node(call, [&](const float*) { ++num_nodes; });
  call.pool.run([&](int part) {
    float* scratch = reinterpret_cast<float*>(call.workspace) + part * num_nodes * kBlock;
    for (int64_t block = num_blocks * part / num_threads; block < num_blocks * (part + 1) / num_threads; ++block) {
      const int64_t begin = block * kBlock, count = std::min(kBlock, size - begin);
      float* copy = scratch;
      for_each_node(call, [&](const float* node) {
        std::copy_n(node + begin, count, copy);
        copy += kBlock;
      });
      add_up(op.additions, scratch, count);
      for (int64_t i = 0; i < num_sums; ++i)
        std::copy_n(scratch + i * kBlock, count, sum.as<float>() + i * size + begin);
    }
  });
}

}  // namespace colossus
