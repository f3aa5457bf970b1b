#include "program/lane_order.h"

#include <algorithm>

namespace colossus {
namespace {

// Bytes of memory that an operation reads or writes.
struct Access {
  int32_t root;
  int64_t begin, end;
  bool writes;
};

std::vector<Access> accesses_of(const Program& program, const Operation& operation) {
  std::vector<Access> result;
  const auto add = [&](TensorId id, bool writes) {
    if (!id) return;
    const Tensor& tensor = program.tensor(id);
    const int64_t begin = tensor.offset * dtype_bytes(tensor.type.dtype);
    result.push_back({program.root(id).index, begin, begin + tensor.type.num_bytes(), writes});
  };
  for (size_t i = 0; i < operation.inputs.size(); ++i)
    add(operation.inputs[i], input_operand(operation.op, i).mutated());
  for (const TensorId id : operation.outputs) add(id, true);
  return result;
}

bool conflict(const std::vector<Access>& a, const std::vector<Access>& b) {
  for (const Access& x : a)
    for (const Access& y : b)
      if (x.root == y.root && (x.writes || y.writes) && x.begin < y.end && y.begin < x.end) return true;
  return false;
}

// An operation beside the compute lane that nothing so far has waited for.
struct Pending {
  int at;
  RankGroup lane;
  std::vector<Access> accesses;
};

std::vector<char> find_those_that_outlive(const Program& program, const LaneOrder& order) {
  std::vector<char> outlives(program.operations.size(), 0);
  for (size_t at = 0; at < outlives.size(); ++at) {
    const Operation& operation = program.operations[at];
    if (!group_of(operation.op) || operation.inputs.size() + operation.outputs.size() != 1) continue;
    const TensorId id = operation.inputs.empty() ? operation.outputs.front() : operation.inputs.front();
    outlives[at] = program.tensor(id).role == Role::kStash;
  }
  for (const std::vector<int>& waits : order.waits)
    for (const int wait : waits) outlives[static_cast<size_t>(wait)] = 0;
  return outlives;
}

}  // namespace

LaneOrder order_lanes(const Program& program) {
  const int count = static_cast<int>(program.operations.size());
  LaneOrder order;
  order.waits.resize(program.operations.size());
  order.done_by.resize(program.operations.size());
  std::vector<Pending> pending;  // in order
  for (int at = 0; at < count; ++at) {
    const Operation& operation = program.operations[static_cast<size_t>(at)];
    const RankGroup* lane = group_of(operation.op);
    if (!lane && pending.empty()) continue;
    std::vector<Access> accesses = accesses_of(program, operation);
    std::vector<int>& waits = order.waits[static_cast<size_t>(at)];
    // From the newest: to wait for one is to wait for all before it on its lane.
    std::vector<RankGroup> waited;
    for (size_t i = pending.size(); i-- > 0;) {
      const Pending& other = pending[i];
      if ((lane && *lane == other.lane) || std::find(waited.begin(), waited.end(), other.lane) != waited.end())
        continue;
      if (!conflict(accesses, other.accesses)) continue;
      waits.push_back(other.at);
      waited.push_back(other.lane);
    }
    if (!lane)
      std::erase_if(pending, [&](const Pending& other) {
        return std::any_of(waits.begin(), waits.end(), [&](int wait) {
          return other.at <= wait && other.lane == *group_of(program.operations[static_cast<size_t>(wait)].op);
        });
      });
    else
      pending.push_back({at, *lane, std::move(accesses)});
  }
  // An operation is known to be done when the compute lane waits for it, or for one that waited for it.
  for (int at = 0; at < count; ++at)
    order.done_by[static_cast<size_t>(at)] = group_of(program.operations[static_cast<size_t>(at)].op) ? count - 1 : at;
  std::vector<std::pair<RankGroup, int>> lane_done;  // by lane: done_by of its next operation
  for (int at = count; at-- > 0;) {
    const RankGroup* lane = group_of(program.operations[static_cast<size_t>(at)].op);
    int& own = order.done_by[static_cast<size_t>(at)];
    if (lane) {
      const auto next =
          std::find_if(lane_done.begin(), lane_done.end(), [&](const auto& e) { return e.first == *lane; });
      if (next != lane_done.end()) own = std::min(own, next->second);
      own = std::max(own, at);
      if (next != lane_done.end())
        next->second = own;
      else
        lane_done.emplace_back(*lane, own);
    }
    for (const int wait : order.waits[static_cast<size_t>(at)]) {
      int& other = order.done_by[static_cast<size_t>(wait)];
      other = std::min(other, std::max(wait, lane ? own : at - 1));
    }
  }
  order.outlives_run = find_those_that_outlive(program, order);
  return order;
}

}  // namespace colossus
