#include "program/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "program/lane_order.h"

namespace colossus {
namespace {

constexpr int64_t kAlignment = 64;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A stretch of memory needed from operation `first` to operation `last`, both included.
struct Block {
  int64_t bytes;
  int first, last;
  int64_t* offset;
};

// The lowest gap between blocks already placed whose lifetimes overlap this one's.
int64_t lowest_fit(const Block& block, const std::vector<const Block*>& placed_by_offset) {
  int64_t at = 0;
  for (const Block* other : placed_by_offset) {
    if (other->last < block.first || other->first > block.last) continue;
    if (*other->offset >= at + block.bytes) break;
    at = std::max(at, *other->offset + other->bytes);
  }
  return at;
}

void place_all(std::vector<Block>& blocks, MemoryPlan& plan) {
  std::vector<size_t> order(blocks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<const Block*> placed;
  for (size_t i : order) {
    Block& block = blocks[i];
    *block.offset = lowest_fit(block, placed);
    plan.arena_bytes = std::max(plan.arena_bytes, *block.offset + block.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &block,
                                   [](const Block* a, const Block* b) { return *a->offset < *b->offset; }),
                  &block);
  }
}

void find_live_peak(const std::vector<Block>& blocks, size_t num_operations, MemoryPlan& plan) {
  std::vector<int64_t> change(num_operations + 1, 0);
  for (const Block& block : blocks) {
    change[static_cast<size_t>(block.first)] += block.bytes;
    change[static_cast<size_t>(block.last) + 1] -= block.bytes;
  }
  int64_t live = 0;
  for (size_t i = 0; i < num_operations; ++i) {
    live += change[i];
    if (live > plan.live_peak_bytes) {
      plan.live_peak_bytes = live;
      plan.peak_operation = static_cast<int>(i);
    }
  }
}

struct Lifetimes {
  std::vector<int> first, last;  // by tensor; -1 when never used
};

Lifetimes lifetimes_of(const Program& program, const LaneOrder& order) {
  Lifetimes life{std::vector<int>(program.tensors.size(), -1), std::vector<int>(program.tensors.size(), -1)};
  const auto touch = [&](TensorId id, int from, int to) {
    if (!id) return;
    const auto i = static_cast<size_t>(program.root(id).index);
    if (life.first[i] < 0) life.first[i] = from;
    life.last[i] = std::max(life.last[i], to);
  };
  for (size_t at = 0; at < program.operations.size(); ++at) {
    for (TensorId id : program.operations[at].inputs) touch(id, static_cast<int>(at), order.done_by[at]);
    for (TensorId id : program.operations[at].outputs) touch(id, static_cast<int>(at), order.done_by[at]);
  }
  // An output is read after the run: nothing may reuse its place.
  for (size_t i = 0; i < program.tensors.size(); ++i)
    if (program.tensors[i].role == Role::kOutput && life.first[i] >= 0)
      life.last[i] = static_cast<int>(program.operations.size()) - 1;
  return life;
}

// Small programs in bytes, or the text would say 0.0 MB for all of them.
std::string amount(int64_t bytes) {
  return bytes < 1'000'000 ? fmt::format("{} bytes", bytes)
                           : fmt::format("{:.1f} MB", static_cast<double>(bytes) * 1e-6);
}

void count_outside(const Program& program, MemoryPlan& plan) {
  for (const Tensor& tensor : program.tensors) {
    if (tensor.base) continue;
    const int64_t bytes = tensor.type.num_bytes();
    switch (tensor.role) {
      case Role::kParameter: plan.parameter_bytes += bytes; break;
      case Role::kGradient: plan.gradient_bytes += bytes; break;
      case Role::kOptimizerState: plan.optimizer_bytes += bytes; break;
      case Role::kState: plan.state_bytes += bytes; break;
      case Role::kInput: plan.input_bytes += bytes; break;
      case Role::kStash: plan.stash_bytes += bytes; break;
      case Role::kActivation:
      case Role::kSum:
      case Role::kOutput: break;
    }
  }
}

}  // namespace

MemoryPlan plan_memory(const Program& program, FunctionRef<int64_t(int)> workspace_bytes) {
  MemoryPlan plan;
  plan.tensor_offset.assign(program.tensors.size(), -1);
  plan.workspace_offset.assign(program.operations.size(), -1);
  const LaneOrder order = order_lanes(program);
  const Lifetimes life = lifetimes_of(program, order);
  std::vector<Block> blocks;
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    const Tensor& tensor = program.tensors[i];
    if (in_arena(tensor.role) && !tensor.base && life.first[i] >= 0)
      blocks.push_back({aligned(std::max<int64_t>(tensor.type.num_bytes(), 1)), life.first[i], life.last[i],
                        &plan.tensor_offset[i]});
  }
  for (size_t at = 0; at < program.operations.size(); ++at)
    if (const int64_t bytes = workspace_bytes(static_cast<int>(at)); bytes > 0)
      blocks.push_back({aligned(bytes), static_cast<int>(at), order.done_by[at], &plan.workspace_offset[at]});
  place_all(blocks, plan);
  for (size_t i = 0; i < program.tensors.size(); ++i)
    if (const Tensor& tensor = program.tensors[i]; tensor.base && in_arena(tensor.role))
      plan.tensor_offset[i] =
          plan.tensor_offset[static_cast<size_t>(tensor.base.index)] + tensor.offset * dtype_bytes(tensor.type.dtype);
  find_live_peak(blocks, program.operations.size(), plan);
  count_outside(program, plan);
  return plan;
}

MemoryPlan plan_memory(const Program& program) {
  return plan_memory(program, [](int) { return int64_t{0}; });
}

std::string to_string(const MemoryPlan& plan, const Program& program) {
  std::string text = fmt::format(
      "parameters {}, gradients {}, optimizer {}, states {}, inputs {}{}\narena {} (at least {} are alive at once",
      amount(plan.parameter_bytes), amount(plan.gradient_bytes), amount(plan.optimizer_bytes), amount(plan.state_bytes),
      amount(plan.input_bytes), plan.stash_bytes > 0 ? ", stash " + amount(plan.stash_bytes) : "",
      amount(plan.arena_bytes), amount(plan.live_peak_bytes));
  if (plan.peak_operation < 0) return text + ")\n";
  const auto& peak = program.operations[static_cast<size_t>(plan.peak_operation)];
  text += fmt::format(", at operation {} {} # {} {})\n", plan.peak_operation, op_name(peak.op), phase_name(peak.phase),
                      peak.scope);
  const Lifetimes life = lifetimes_of(program, order_lanes(program));
  std::map<std::string, std::pair<int64_t, int>> by_maker;
  for (size_t at = 0; at < program.operations.size(); ++at)
    for (TensorId id : program.operations[at].outputs) {
      if (!id || life.first[static_cast<size_t>(id.index)] > plan.peak_operation ||
          life.last[static_cast<size_t>(id.index)] < plan.peak_operation)
        continue;
      auto& [bytes, count] = by_maker[std::string(op_name(program.operations[at].op))];
      bytes += program.tensor(id).type.num_bytes();
      ++count;
    }
  for (const auto& [maker, held] : by_maker)
    text += fmt::format("  {:>14} in {:>4} tensors made by {}\n", amount(held.first), held.second, maker);
  return text;
}

}  // namespace colossus
