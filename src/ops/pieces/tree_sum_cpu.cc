#include <algorithm>

#include "device/cpu/cpu_kernel.h"
#include "ops/pieces/pieces.h"

namespace colossus {
namespace {

// Elements whose nodes are added while they are in the cache.
constexpr int64_t kBlock = 1024;

// into[] = the sum; `nodes` is overwritten.
void add_up(const std::vector<int64_t>& additions, float* nodes, int64_t count, float* into) {
  for (size_t i = 0; i < additions.size(); i += 2) {
    float* sum = nodes + additions[i] * kBlock;
    const float* term = nodes + additions[i + 1] * kBlock;
    for (int64_t e = 0; e < count; ++e) sum[e] += term[e];
  }
  std::copy_n(nodes, count, into);
}

}  // namespace

template <>
void prepare_cpu(const TreeSum&, CpuPrepare& prepare) {
  prepare.workspace_bytes =
      prepare.num_threads * prepare.shapes.shape(TreeSum::kNodes)[0] * kBlock * static_cast<int64_t>(sizeof(float));
}

template <>
void run_cpu(const TreeSum& op, const CpuCall& call) {
  const View &nodes = call.input(TreeSum::kNodes), &sum = call.input(TreeSum::kSum);
  const int64_t num_nodes = nodes.shape[0], size = nodes.shape[1], num_blocks = (size + kBlock - 1) / kBlock;
  const int64_t num_threads = call.pool.num_threads();
  call.pool.run([&](int part) {
    float* scratch = reinterpret_cast<float*>(call.workspace) + part * num_nodes * kBlock;
    for (int64_t block = num_blocks * part / num_threads; block < num_blocks * (part + 1) / num_threads; ++block) {
      const int64_t begin = block * kBlock, count = std::min(kBlock, size - begin);
      for (int64_t node = 0; node < num_nodes; ++node)
        std::copy_n(nodes.as<float>() + node * size + begin, count, scratch + node * kBlock);
      add_up(op.additions, scratch, count, sum.as<float>() + begin);
    }
  });
}

}  // namespace colossus
