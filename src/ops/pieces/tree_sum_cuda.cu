#include <algorithm>
#include <map>
#include <vector>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/pieces/pieces.h"

namespace colossus {
namespace {

// Additions that one launch makes: nodes are loaded into slots, added up there, and some are stored.
constexpr int kMostSlots = 32;
struct Round {
  const float* from[kMostSlots];
  float* to[kMostSlots];  // null: nowhere
  unsigned char into[2 * kMostSlots], term[2 * kMostSlots];
  int num_slots, num_additions;
};

// A thread has its elements of every slot in shared memory, where an addition can name any of them; nobody else reads
// them there, so that nothing is waited for but the thread's own copies, which are all under way at once. Each node is
// read once and each sum written once, 4 bytes an element; in shared memory a node costs four times that, of which a
// multiprocessor moves seven times as much. With rows that do not begin at multiples of 16 bytes: one element a thread.
constexpr unsigned kThreads = 128;
template <int kSize>
__global__ void tree_sum_kernel(Round round, int64_t num_elements) {
  using Values = gpu::Pack<float, kSize>;
  Values* slots = gpu::dynamic_shared<Values>() + threadIdx.x;
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  for (int i = 0; i < round.num_slots; ++i) {
    if constexpr (sizeof(Values) == 16)
      gpu::copy_async_16(slots + i * kThreads, round.from[i] + at);
    else
      slots[i * kThreads] = *reinterpret_cast<const Values*>(round.from[i] + at);
  }
  if constexpr (sizeof(Values) == 16) {
    gpu::close_copy_group();
    gpu::wait_for_copies<0>();
  }
  for (int i = 0; i < round.num_additions; ++i) {
    Values sum = slots[round.into[i] * kThreads];
    const Values term = slots[round.term[i] * kThreads];
    for (int j = 0; j < kSize; ++j) sum.elements[j] += term.elements[j];
    slots[round.into[i] * kThreads] = sum;
  }
  for (int i = 0; i < round.num_slots; ++i)
    if (round.to[i]) *reinterpret_cast<Values*>(round.to[i] + at) = slots[i * kThreads];
}

struct Sizes {
  int64_t num_nodes, num_sums;
};

// A round before addresses are known.
struct Plan {
  std::vector<int64_t> nodes;                  // of the slots
  std::vector<bool> stored, complete;          // by slot; complete: a sum, stored in its place
  std::vector<std::pair<int, int>> additions;  // of slots
};

// As many additions in order as have nodes for one round, and again. Most programs have one round.
std::vector<Plan> plan_rounds(const std::vector<int64_t>& additions, const Sizes& sizes) {
  std::vector<Plan> rounds;
  std::map<int64_t, int> slots;  // of the last round
  const auto slot_of = [&](int64_t node) {
    const auto [found, is_new] = slots.emplace(node, static_cast<int>(slots.size()));
    if (is_new) {
      rounds.back().nodes.push_back(node);
      rounds.back().stored.push_back(false);
      rounds.back().complete.push_back(false);
    }
    return found->second;
  };
  const auto begin_round_unless_room_for = [&](int count) {
    if (!rounds.empty() && static_cast<int>(slots.size()) + count <= kMostSlots &&
        static_cast<int>(rounds.back().additions.size()) < 2 * kMostSlots)
      return;
    rounds.emplace_back();
    slots.clear();
  };
  std::map<int64_t, size_t> last_round;  // that has the node
  for (size_t i = 0; i < additions.size(); i += 2) {
    begin_round_unless_room_for(2);
    const int into = slot_of(additions[i]), term = slot_of(additions[i + 1]);
    rounds.back().additions.emplace_back(into, term);
    last_round[additions[i]] = last_round[additions[i + 1]] = rounds.size() - 1;
  }
  for (int64_t sum = 0; sum < sizes.num_sums; ++sum)
    if (last_round.find(sum) == last_round.end()) {  // a node alone
      begin_round_unless_room_for(1);
      slot_of(sum);
      last_round[sum] = rounds.size() - 1;
    }
  for (size_t round = 0; round < rounds.size(); ++round) {
    Plan& plan = rounds[round];
    // Sums are stored in any case; others if they have changed and are asked for again.
    for (const auto& [into, term] : plan.additions) {
      const int64_t node = plan.nodes[static_cast<size_t>(into)];
      if (last_round[node] > round) plan.stored[static_cast<size_t>(into)] = true;
    }
    // One sum may lie where a node is that a later round reads: until it is complete it lies in the workspace.
    for (size_t slot = 0; slot < plan.nodes.size(); ++slot)
      if (const int64_t node = plan.nodes[slot];
          node < sizes.num_sums && (sizes.num_sums > 1 || last_round[node] == round))
        plan.stored[slot] = plan.complete[slot] = true;
  }
  return rounds;
}

Sizes sizes_of(const Shape& sum, int64_t num_nodes) { return {num_nodes, sum.rank() == 1 ? 1 : sum[0]}; }

// Rows of the workspace for nodes that go from round to round and not in a sum's place, by node; -1: none.
std::vector<int64_t> rows_between_rounds(const std::vector<Plan>& rounds, const Sizes& sizes, int64_t& num_rows) {
  std::vector<int64_t> row(static_cast<size_t>(sizes.num_nodes), -1);
  num_rows = 0;
  for (const Plan& plan : rounds)
    for (size_t slot = 0; slot < plan.nodes.size(); ++slot)
      if (int64_t& at = row[static_cast<size_t>(plan.nodes[slot])]; plan.stored[slot] && !plan.complete[slot] && at < 0)
        at = num_rows++;
  return row;
}

template <int kSize>
void launch_round(gpu::Stream stream, const Round& round, int64_t size) {
  gpu::launch({.stream = stream,
               .grid = {static_cast<unsigned>(gpu::divide_up(size, kThreads * kSize))},
               .block = {kThreads},
               .shared_bytes = round.num_slots * static_cast<int64_t>(kThreads * kSize * sizeof(float))},
              tree_sum_kernel<kSize>, round, size);
}

// Rows begin at multiples of 64 bytes.
int64_t row_elements(int64_t size) { return gpu::divide_up(size, 16) * 16; }

}  // namespace

template <>
Status prepare_cuda(const TreeSum& op, CudaPrepare& prepare) {
  const Shape& sum = prepare.shapes.shape(TreeSum::kSum);
  int64_t num_nodes = 0, num_rows = 0;
  for (int i = TreeSum::kNodes; i < prepare.shapes.num_inputs(); ++i) num_nodes += prepare.shapes.shape(i)[0];
  const Sizes sizes = sizes_of(sum, num_nodes);
  rows_between_rounds(plan_rounds(op.additions, sizes), sizes, num_rows);
  prepare.workspace_bytes = num_rows * row_elements(sum[-1]) * 4;
  return ok_status();
}

template <>
void run_cuda(const TreeSum& op, const CudaCall& call) {
  const View& sum = call.input(TreeSum::kSum);
  const int64_t size = sum.shape[-1];
  std::vector<const float*> place;  // of each node, now
  for (int i = TreeSum::kNodes; i < call.num_inputs(); ++i)
    for (int64_t row = 0; row < call.input(i).shape[0]; ++row) place.push_back(call.input(i).as<float>() + row * size);
  const Sizes sizes = sizes_of(sum.shape, static_cast<int64_t>(place.size()));
  const std::vector<Plan> rounds = plan_rounds(op.additions, sizes);
  int64_t num_rows = 0;
  const std::vector<int64_t> workspace_row = rows_between_rounds(rounds, sizes, num_rows);
  const auto stored_at = [&](int64_t node, bool complete) {
    if (complete) return sum.as<float>() + node * size;
    return reinterpret_cast<float*>(call.workspace) + workspace_row[static_cast<size_t>(node)] * row_elements(size);
  };
  for (const Plan& plan : rounds) {
    Round round{};
    round.num_slots = static_cast<int>(plan.nodes.size());
    round.num_additions = static_cast<int>(plan.additions.size());
    for (size_t slot = 0; slot < plan.nodes.size(); ++slot) {
      const auto node = static_cast<size_t>(plan.nodes[slot]);
      round.from[slot] = place[node];
      if (plan.stored[slot]) place[node] = round.to[slot] = stored_at(plan.nodes[slot], plan.complete[slot]);
    }
    for (size_t i = 0; i < plan.additions.size(); ++i) {
      round.into[i] = static_cast<unsigned char>(plan.additions[i].first);
      round.term[i] = static_cast<unsigned char>(plan.additions[i].second);
    }
    size % gpu::kPackSize<float> == 0 ? launch_round<gpu::kPackSize<float>>(call.stream, round, size)
                                      : launch_round<1>(call.stream, round, size);
  }
}

}  // namespace colossus
