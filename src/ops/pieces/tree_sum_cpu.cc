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

// Calls body(row) for each node, in order.
template <class Body>
void for_each_node(const CpuCall& call, Body body) {
  for (int i = TreeSum::kNodes; i < call.num_inputs(); ++i) {
    const View& nodes = call.input(i);
    for (int64_t node = 0; node < nodes.shape[0]; ++node) body(nodes.as<float>() + node * nodes.shape[1]);
  }
}

// One block of everything: of each node where it is, and room for each.
struct Block {
  std::span<const float*> nodes;
  float* scratch;
  float* sums;
  int64_t num_sums, stride;  // from sum to sum
  int64_t count;

  float* sum_place(int64_t node) const { return sums + node * stride; }
  // One sum may lie where a node is that is still to be read, so it is written by the last addition of all only.
  float* place_of(int64_t node, bool is_last) const {
    return node < num_sums && (num_sums > 1 || is_last) ? sum_place(node) : scratch + node * kBlock;
  }
};

// Nothing is copied: the first addition of a node reads it where it came to, and leaves it in its place here.
void add_up(const std::vector<int64_t>& additions, const Block& block) {
  const ArrayKernels& kernels = select_isa(array_kernels<Avx512>(), array_kernels<Avx2>());
  for (size_t i = 0; i < additions.size(); i += 2) {
    const float *&sum = block.nodes[static_cast<size_t>(additions[i])],
                *term = block.nodes[static_cast<size_t>(additions[i + 1])];
    float* place = block.place_of(additions[i], i + 2 == additions.size());
    kernels.add(sum, term, place, block.count);
    sum = place;
  }
  for (int64_t i = 0; i < block.num_sums; ++i)
    if (const float* node = block.nodes[static_cast<size_t>(i)]; node != block.sum_place(i))
      std::copy_n(node, block.count, block.sum_place(i));
}

// Of one thread: a block of each node, and where each node is.
int64_t workspace_bytes(int64_t num_nodes) {
  return num_nodes * (kBlock * static_cast<int64_t>(sizeof(float)) + static_cast<int64_t>(sizeof(const float*)));
}

}  // namespace

template <>
void prepare_cpu(const TreeSum&, CpuPrepare& prepare) {
  int64_t num_nodes = 0;
  for (int i = TreeSum::kNodes; i < prepare.shapes.num_inputs(); ++i) num_nodes += prepare.shapes.shape(i)[0];
  prepare.workspace_bytes = prepare.num_threads * workspace_bytes(num_nodes);
}

template <>
void run_cpu(const TreeSum& op, const CpuCall& call) {
  const View& sum = call.input(TreeSum::kSum);
  const int64_t size = sum.shape[-1], num_sums = sum.shape.rank() == 1 ? 1 : sum.shape[0];
  const int64_t num_blocks = (size + kBlock - 1) / kBlock, num_threads = call.pool.num_threads();
  int64_t num_nodes = 0;
  for_each_node(call, [&](const float*) { ++num_nodes; });
  call.pool.run([&](int part) {
    float* scratch = reinterpret_cast<float*>(call.workspace + part * workspace_bytes(num_nodes));
    const std::span places(reinterpret_cast<const float**>(scratch + num_nodes * kBlock),
                           static_cast<size_t>(num_nodes));
    for (int64_t block = num_blocks * part / num_threads; block < num_blocks * (part + 1) / num_threads; ++block) {
      const int64_t begin = block * kBlock;
      size_t next = 0;
      for_each_node(call, [&](const float* node) { places[next++] = node + begin; });
      add_up(op.additions, {.nodes = places,
                            .scratch = scratch,
                            .sums = sum.as<float>() + begin,
                            .num_sums = num_sums,
                            .stride = size,
                            .count = std::min(kBlock, size - begin)});
    }
  });
}

}  // namespace colossus
