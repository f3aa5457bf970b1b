#include <algorithm>
#include <optional>

#include "program/passes.h"

namespace colossus {
namespace {

std::optional<size_t> operand_index(const Op& op, std::string_view name) {
  const auto operands = input_operands(op);
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i].name == name) return i;
  return std::nullopt;
}

// Who writes and who reads each tensor, by operation index.
struct Uses {
  explicit Uses(const Program& program) : writer(program.tensors.size(), -1), num_reads(program.tensors.size(), 0) {
    for (size_t at = 0; at < program.operations.size(); ++at) {
      for (TensorId id : program.operations[at].inputs)
        if (id) ++num_reads[static_cast<size_t>(id.index)];
      for (TensorId id : program.operations[at].outputs)
        if (id) writer[static_cast<size_t>(id.index)] = static_cast<int>(at);
    }
  }
  std::vector<int> writer;  // -1: nobody; it lives outside the program
  std::vector<int> num_reads;
};

void erase_marked(Program& program, const std::vector<bool>& erased) {
  std::vector<Operation> kept;
  for (size_t at = 0; at < program.operations.size(); ++at)
    if (!erased[at]) kept.push_back(std::move(program.operations[at]));
  program.operations = std::move(kept);
}

// y = matmul(..); z = activation(y), y read by nothing else  =>  z = matmul(.., activation)
void fuse_activations(Program& program) {
  const Uses uses(program);
  std::vector<bool> erased(program.operations.size(), false);
  for (size_t at = 0; at < program.operations.size(); ++at) {
    Operation& operation = program.operations[at];
    const auto* activation = std::get_if<Activation>(&operation.op);
    if (!activation) continue;
    const TensorId x = operation.inputs[Activation::kX];
    const int writer = uses.writer[static_cast<size_t>(x.index)];
    if (writer < 0 || uses.num_reads[static_cast<size_t>(x.index)] != 1 || program.tensor(x).role != Role::kActivation)
      continue;
    Operation& maker = program.operations[static_cast<size_t>(writer)];
    auto* matmul = std::get_if<Matmul>(&maker.op);
    if (!matmul || matmul->activation != ActivationKind::kNone || maker.inputs[Matmul::kAddend]) continue;
    matmul->activation = activation->kind;
    maker.outputs[Matmul::kY] = operation.outputs[Activation::kY];
    erased[at] = true;
  }
  erase_marked(program, erased);
}

// Does `term`, read only by the addition at `at`, come from an operation that can add `other` itself?
bool absorb_addend(Program& program, const Uses& uses, size_t at, TensorId term, TensorId other) {
  const int writer = uses.writer[static_cast<size_t>(term.index)];
  if (writer < 0 || uses.num_reads[static_cast<size_t>(term.index)] != 1 ||
      program.tensor(term).role != Role::kActivation)
    return false;
  if (uses.writer[static_cast<size_t>(other.index)] >= writer) return false;  // not there yet when the maker runs
  Operation& maker = program.operations[static_cast<size_t>(writer)];
  const auto slot = operand_index(maker.op, "addend");
  if (!slot || maker.inputs[*slot] || maker.outputs.front() != term) return false;
  maker.inputs[*slot] = other;
  maker.outputs.front() = program.operations[at].outputs.front();
  return true;
}

// s = add(a, b) where one of them was made by an operation with room for an addend. Chains fuse one link a round.
bool fuse_one_round_of_additions(Program& program) {
  const Uses uses(program);
  std::vector<bool> erased(program.operations.size(), false);
  std::vector<bool> changed(program.tensors.size(),
                            false);  // terms whose maker moved on this round: `uses` is stale for them
  bool any = false;
  for (size_t at = 0; at < program.operations.size(); ++at) {
    if (!std::holds_alternative<Add>(program.operations[at].op)) continue;
    const TensorId a = program.operations[at].inputs[Add::kA], b = program.operations[at].inputs[Add::kB];
    if (a == b || changed[static_cast<size_t>(a.index)] || changed[static_cast<size_t>(b.index)]) continue;
    if (!absorb_addend(program, uses, at, b, a) && !absorb_addend(program, uses, at, a, b)) continue;
    changed[static_cast<size_t>(program.operations[at].outputs.front().index)] = true;
    erased[at] = any = true;
  }
  erase_marked(program, erased);
  return any;
}

// The head's gradient computes the loss on its way: it takes the forward's place, so that logits are made once.
void fuse_head(Program& program) {
  const Uses uses(program);
  std::vector<bool> erased(program.operations.size(), false);
  for (size_t at = 0; at < program.operations.size(); ++at) {
    auto* grad = std::get_if<HeadCrossEntropyGrad>(&program.operations[at].op);
    if (!grad) continue;
    using G = HeadCrossEntropyGrad;
    using F = HeadCrossEntropy;
    const auto& inputs = program.operations[at].inputs;
    for (size_t before = 0; before < at; ++before) {
      Operation& forward = program.operations[before];
      if (!std::holds_alternative<F>(forward.op) || forward.inputs[F::kH] != inputs[G::kH] ||
          forward.inputs[F::kW] != inputs[G::kW] || forward.inputs[F::kTargets] != inputs[G::kTargets] ||
          forward.inputs[F::kNumTargets] != inputs[G::kNumTargets])
        continue;
      if (uses.writer[static_cast<size_t>(inputs[G::kDloss].index)] >= static_cast<int>(before)) break;
      Operation moved = program.operations[at];
      moved.outputs[G::kLoss] = forward.outputs[F::kLoss];
      moved.outputs[G::kTokenLoss] = forward.outputs[F::kTokenLoss];
      forward = std::move(moved);
      erased[at] = true;
      break;
    }
  }
  erase_marked(program, erased);
}

bool changes_memory(const Operation& operation) {
  for (size_t i = 0; i < operation.inputs.size(); ++i)
    if (operation.inputs[i] && input_operand(operation.op, i).mutated()) return true;
  return false;
}

// The neighbour's program has the other half: without this one it would wait for ever.
bool is_half_of_a_transfer(const Operation& operation) {
  const RankGroup* group = group_of(operation.op);
  return group && group->link != Link::kNone;
}

// Somebody reads it after the run.
bool is_kept(Role role) { return role == Role::kOutput || role == Role::kStash; }

}  // namespace

Program eliminate_dead(Program program) {
  std::vector<bool> read(program.tensors.size(), false), erased(program.operations.size(), false);
  for (size_t at = program.operations.size(); at-- > 0;) {
    const Operation& operation = program.operations[at];
    bool alive = changes_memory(operation) || is_half_of_a_transfer(operation);
    for (TensorId id : operation.outputs)
      alive |= id && (read[static_cast<size_t>(id.index)] || is_kept(program.tensor(id).role));
    erased[at] = !alive;
    if (!alive) continue;
    for (TensorId id : operation.inputs)
      if (id) read[static_cast<size_t>(id.index)] = true;
  }
  erase_marked(program, erased);
  return program;
}

Program fuse(Program program) {
  fuse_activations(program);
  fuse_head(program);
  while (fuse_one_round_of_additions(program)) {
  }
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

}  // namespace colossus
