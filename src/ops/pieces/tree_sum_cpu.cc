#include <algorithm>
#include <span>
#include <vector>

#include "device/cpu/array_simd.h"
#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/pieces/pieces.h"

namespace colossus {
namespace {

// Elements whose nodes are added while they are in the cache.
constexpr int64_t kBlock = 1024;

// into[] = the sum of `count` elements; nodes[i] is where those of node i are, and is moved along as they are added up
// in `scratch`. Nothing is copied: the first addition of a node reads it where it came to.
void add_up(const std::vector<int64_t>& additions, std::span<const float*> nodes, float* scratch, int64_t count,
            float* into) {
  const ArrayKernels& kernels = select_isa(array_kernels<Avx512>(), array_kernels<Avx2>());
  for (size_t i = 0; i < additions.size(); i += 2) {
    const auto sum = static_cast<size_t>(additions[i]), term = static_cast<size_t>(additions[i + 1]);
    float* place = i + 2 == additions.size() && sum == 0 ? into : scratch + additions[i] * kBlock;
    kernels.add(nodes[sum], nodes[term], place, count);
    nodes[sum] = place;
  }
  if (nodes[0] != into) std::copy_n(nodes[0], count, into);
}

// Of one thread: a block of each node, and where each node is.
int64_t workspace_bytes(int64_t num_nodes) {
  return num_nodes * (kBlock * static_cast<int64_t>(sizeof(float)) + static_cast<int64_t>(sizeof(const float*)));
}

}  // namespace

template <>
void prepare_cpu(const TreeSum&, CpuPrepare& prepare) {
  prepare.workspace_bytes = prepare.num_threads * workspace_bytes(prepare.shapes.shape(TreeSum::kNodes)[0]);
}

template <>
void run_cpu(const TreeSum& op, const CpuCall& call) {
  const View &nodes = call.input(TreeSum::kNodes), &sum = call.input(TreeSum::kSum);
  const int64_t num_nodes = nodes.shape[0], size = nodes.shape[1], num_blocks = (size + kBlock - 1) / kBlock;
  const int64_t num_threads = call.pool.num_threads();
  call.pool.run([&](int part) {
    float* scratch = reinterpret_cast<float*>(call.workspace + part * workspace_bytes(num_nodes));
    const std::span places(reinterpret_cast<const float**>(scratch + num_nodes * kBlock),
                           static_cast<size_t>(num_nodes));
    for (int64_t block = num_blocks * part / num_threads; block < num_blocks * (part + 1) / num_threads; ++block) {
      const int64_t begin = block * kBlock, count = std::min(kBlock, size - begin);
      for (int64_t node = 0; node < num_nodes; ++node)
        places[static_cast<size_t>(node)] = nodes.as<float>() + node * size + begin;
      add_up(op.additions, places, scratch, count, sum.as<float>() + begin);
    }
  });
}

}  // namespace colossus
