// A training step, or a part of one, as a straight line of typed operations on typed tensors. No control flow: what is
// dynamic (expert load, cached lengths) is a tensor of counts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "program/op.h"

namespace colossus {

enum class Role {
  kInput,      // bound by the caller before each run
  kParameter,  // lives outside the program
  kGradient,   // of a parameter; operations add into it
  kOptimizerState,
  kState,       // any other memory that outlives a run: a key/value cache
  kActivation,  // lives in the arena, written once
  kOutput,      // an activation the caller reads after the run
  kSum,         // lives in the arena, written once (with zeros) and then added into: a gradient that is soon handed on
  kStash,       // written once, by one of several programs that share it and read by those that run later: what a
                // forward pass leaves for its backward pass. Bound anew before each run
};
std::string_view role_name(Role role);
constexpr bool in_arena(Role role) { return role == Role::kActivation || role == Role::kOutput || role == Role::kSum; }
// By an operation's output, once.
constexpr bool may_be_written(Role role) { return in_arena(role) || role == Role::kStash; }
constexpr bool may_be_mutated(Role role) {
  return role == Role::kParameter || role == Role::kGradient || role == Role::kOptimizerState || role == Role::kState ||
         role == Role::kSum;
}

enum class Phase { kForward, kBackward, kRecompute, kUpdate };
std::string_view phase_name(Phase phase);

// 3 of the scope "layers.3.attn"; -1 outside the layers.
int64_t layer_of(std::string_view scope);

struct Tensor {
  std::string name;  // unique; of a parameter its name in checkpoints: "layers.3.attn.q"
  TensorType type;
  Role role = Role::kActivation;
  // A view is a range of another tensor of the same dtype and role, which is none itself: "layers.3.attn.q" is the
  // elements from `offset` on of "parameters.3".
  TensorId base = {};
  int64_t offset = 0;
};

struct Operation {
  Op op;
  std::vector<TensorId> inputs, outputs;  // in the order of the op's operands; absent ones have no index
  std::string scope;                      // where the model wrote it: "layers.3.attn"
  Phase phase = Phase::kForward;
};

struct Program {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<Operation> operations;

  const Tensor& tensor(TensorId id) const { return tensors.at(static_cast<size_t>(id.index)); }
  Tensor& tensor(TensorId id) { return tensors.at(static_cast<size_t>(id.index)); }
  // The tensor whose memory this one is: its base, or itself.
  TensorId root(TensorId id) const { return tensor(id).base ? tensor(id).base : id; }
  TensorId find(std::string_view tensor_name) const;  // none when there is no such tensor; linear time
  std::vector<TensorId> with_role(Role role) const;
  OpShapes shapes(const Operation& operation) const;
};

Cost cost_of(const Program& program, const Operation& operation);
// Summed over operations (or those of one phase).
Cost total_cost(const Program& program);
Cost total_cost(const Program& program, Phase phase);

// Every fault found: operands of the wrong number, kind or type; a tensor used before it is written, written twice, or
// mutated although its role forbids it; duplicate names. Passes are verified after each run in tests and debug builds.
Status verify(const Program& program);

struct ProgramPrintOptions {
  bool costs = false;   // FLOPs and bytes beside each operation
  bool tensors = true;  // the table of parameters, inputs and states
};
// One line an operation: "%12 = rms_norm(%7, layers.0.attn_norm) eps=1e-05 : bf16[1, 8192, 6144]  # layers.0.attn".
std::string to_string(const Program& program, const ProgramPrintOptions& options = {});

}  // namespace colossus
