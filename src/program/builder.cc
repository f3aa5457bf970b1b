#include "program/builder.h"

#include <fmt/format.h>

namespace colossus {

Builder::Builder(Program program) : program_(std::move(program)) {
  for (size_t i = 0; i < program_.tensors.size(); ++i) by_name_[program_.tensors[i].name] = static_cast<int32_t>(i);
}

TensorId Builder::append_tensor(Tensor tensor) {
  const auto index = static_cast<int32_t>(program_.tensors.size());
  by_name_[tensor.name] = index;
  program_.tensors.push_back(std::move(tensor));
  return {index};
}

std::string Builder::unique_name(std::string_view wanted) {
  std::string name(wanted);
  while (by_name_.contains(name)) name = fmt::format("{}.{}", wanted, ++name_uses_[std::string(wanted)]);
  return name;
}

TensorId Builder::declare(std::string name, TensorType type, Role role) {
  if (!status_.ok()) return {};
  if (const auto found = by_name_.find(name); found != by_name_.end()) {
    const Tensor& tensor = program_.tensors[static_cast<size_t>(found->second)];
    if (tensor.type == type && tensor.role == role) return {found->second};
    fail(invalid(fmt::format("[{}] tensor {} is declared twice: {} {} and {} {}", program_.name, name,
                             tensor.type.shape.to_string(), role_name(tensor.role), type.shape.to_string(),
                             role_name(role))));
    return {};
  }
  return append_tensor({std::move(name), std::move(type), role});
}

TensorId Builder::view(std::string name, Shape shape, TensorId base, int64_t offset) {
  if (!status_.ok()) return {};
  const Tensor& whole = program_.tensor(base);
  if (!whole.base && offset >= 0 && offset + shape.num_elements() <= whole.type.shape.num_elements())
    return append_tensor({unique_name(name), {std::move(shape), whole.type.dtype}, whole.role, base, offset});
  fail(invalid(fmt::format("[{}] {} is no range of {} {}: {} from element {}", program_.name, name, whole.name,
                           whole.type.shape.to_string(), shape.to_string(), offset)));
  return {};
}

TensorId Builder::emit(Op op, std::vector<TensorId> inputs, std::string_view output_name) {
  last_outputs_.clear();
  if (!status_.ok()) return {};
  const auto operands = input_operands(op);
  const auto results = output_operands(op);
  const bool variadic = !operands.empty() && operands.back().kind == OperandKind::kVariadic;
  if (!variadic) inputs.resize(std::max(inputs.size(), operands.size()));
  std::vector<std::optional<TensorType>> types;
  for (size_t i = 0; i < inputs.size(); ++i) {
    types.push_back(inputs[i] ? std::optional(program_.tensor(inputs[i]).type) : std::nullopt);
    if (!inputs[i] && !input_operand(op, i).optional())
      return fail(invalid(fmt::format("[{} {}] {}.{}: got nothing; needed a tensor", program_.name, scope_, op_name(op),
                                      input_operand(op, i).name))),
             TensorId{};
  }
  Inference inference(op_name(op), operands, results, std::move(types));
  const Status inferred = std::visit([&](const auto& o) { return infer(o, inference); }, op);
  if (!inferred.ok()) return fail(inferred.at(program_.name + " " + scope_)), TensorId{};

  Operation operation{std::move(op), std::move(inputs), {}, scope_, phase_};
  const auto output_types = inference.take_outputs();
  for (size_t i = 0; i < output_types.size(); ++i) {
    if (!output_types[i]) {
      CHECK(results[i].optional(), "shape inference left a required output without a type");
      operation.outputs.push_back({});
      continue;
    }
    const std::string own = fmt::format("{}{}{}", scope_, scope_.empty() ? "" : ".",
                                        i == 0 && !output_name.empty() ? output_name
                                        : i == 0                       ? op_name(operation.op)
                                                                       : results[i].name);
    operation.outputs.push_back(append_tensor({unique_name(own), *output_types[i], Role::kActivation}));
  }
  last_outputs_ = operation.outputs;
  program_.operations.push_back(std::move(operation));
  return last_outputs_.empty() ? TensorId{} : last_outputs_.front();
}

void Builder::mark_output(TensorId id, std::string_view name) {
  if (!status_.ok()) return;
  Tensor& tensor = program_.tensor(id);
  CHECK(in_arena(tensor.role), "only what an operation writes can be an output");
  tensor.role = Role::kOutput;
  if (name.empty() || tensor.name == name) return;
  by_name_.erase(tensor.name);
  tensor.name = unique_name(name);
  by_name_[tensor.name] = id.index;
}

void emit_part(Partition& p, Op op, std::vector<TensorId> inputs, std::initializer_list<Placement> outputs) {
  p.builder().emit(std::move(op), std::move(inputs));
  const std::vector<TensorId> parts = p.builder().last_outputs();
  if (parts.empty()) return;  // it has none, or the builder holds the error
  int i = 0;
  for (const Placement& placement : outputs) {
    p.set_output(i, parts[static_cast<size_t>(i)], placement);
    ++i;
  }
}

Result<Program> Builder::finish() {
  RETURN_IF_ERROR(status_);
  return std::move(program_);
}

}  // namespace colossus
