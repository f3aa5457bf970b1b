#include "program/program.h"

#include <charconv>

namespace colossus {

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kInput: return "input";
    case Role::kParameter: return "parameter";
    case Role::kGradient: return "gradient";
    case Role::kOptimizerState: return "optimizer_state";
    case Role::kState: return "state";
    case Role::kActivation: return "activation";
    case Role::kOutput: return "output";
    case Role::kSum: return "sum";
    case Role::kStash: return "stash";
  }
  return "?";
}

std::string_view phase_name(Phase phase) {
  switch (phase) {
    case Phase::kForward: return "forward";
    case Phase::kBackward: return "backward";
    case Phase::kRecompute: return "recompute";
    case Phase::kUpdate: return "update";
  }
  return "?";
}

int64_t layer_of(std::string_view scope) {
  constexpr std::string_view kPrefix = "layers.";
  if (!scope.starts_with(kPrefix)) return -1;
  int64_t layer = -1;
  std::from_chars(scope.data() + kPrefix.size(), scope.data() + scope.size(), layer);
  return layer;
}

TensorId Program::find(std::string_view tensor_name) const {
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == tensor_name) return {static_cast<int32_t>(i)};
  return {};
}

std::vector<TensorId> Program::with_role(Role role) const {
  std::vector<TensorId> ids;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].role == role) ids.push_back({static_cast<int32_t>(i)});
  return ids;
}

OpShapes Program::shapes(const Operation& operation) const {
  const auto types = [this](const std::vector<TensorId>& ids) {
    std::vector<std::optional<TensorType>> result;
    for (TensorId id : ids) result.push_back(id ? std::optional(tensor(id).type) : std::nullopt);
    return result;
  };
  return {types(operation.inputs), types(operation.outputs)};
}

Cost cost_of(const Program& program, const Operation& operation) {
  const OpShapes shapes = program.shapes(operation);
  return std::visit([&](const auto& op) { return cost(op, shapes); }, operation.op);
}

Cost total_cost(const Program& program) {
  Cost total;
  for (const Operation& operation : program.operations) total += cost_of(program, operation);
  return total;
}

Cost total_cost(const Program& program, Phase phase) {
  Cost total;
  for (const Operation& operation : program.operations)
    if (operation.phase == phase) total += cost_of(program, operation);
  return total;
}

}  // namespace colossus
