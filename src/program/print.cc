#include <fmt/format.h>

#include "program/program.h"

namespace colossus {
namespace {

// Collects " name=value" for each attribute that differs from the op's default.
class AttributePrinter {
 public:
  void operator()(const char* name, bool value) {
    if (value) text_ += fmt::format(" {}", name);
  }
  void operator()(const char* name, int64_t value) {
    if (value) text_ += fmt::format(" {}={}", name, value);
  }
  void operator()(const char* name, double value) { text_ += fmt::format(" {}={:.6g}", name, value); }
  void operator()(const char* name, ActivationKind value) {
    if (value != ActivationKind::kNone) text_ += fmt::format(" {}={}", name, activation_name(value));
  }
  void operator()(const char* name, const RankGroup& group) { text_ += fmt::format(" {}={}", name, group.name()); }
  void operator()(const char* name, const std::vector<int64_t>& values) {
    text_ += fmt::format(" {}=[{}]", name, fmt::join(values, ", "));
  }
  void operator()(const char*, DType) {}         // shown by the output's type
  void operator()(const char*, const Shape&) {}  // the same
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string type_text(const TensorType& type) {
  return fmt::format("{}{}", dtype_name(type.dtype), type.shape.to_string());
}

std::string reference(const Program& program, TensorId id) {
  if (!id) return "-";
  const Tensor& tensor = program.tensor(id);
  return tensor.role == Role::kActivation && !tensor.base ? fmt::format("%{}", id.index) : tensor.name;
}

std::string joined(const Program& program, const std::vector<TensorId>& ids, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += (i ? ", " : "") + reference(program, ids[i]);
  return text;
}

std::string operation_line(const Program& program, const Operation& operation, const ProgramPrintOptions& options) {
  size_t num_inputs = operation.inputs.size();
  while (num_inputs > 0 && !operation.inputs[num_inputs - 1]) --num_inputs;
  AttributePrinter attributes;
  std::visit([&](const auto& op) { op.attributes(attributes); }, operation.op);
  std::string line;
  if (!operation.outputs.empty() && operation.outputs.front())
    line += joined(program, operation.outputs, operation.outputs.size()) + " = ";
  line +=
      fmt::format("{}({}){}", op_name(operation.op), joined(program, operation.inputs, num_inputs), attributes.take());
  if (!operation.outputs.empty() && operation.outputs.front())
    line += " : " + type_text(program.tensor(operation.outputs.front()).type);
  line += fmt::format("  # {}{}{}", phase_name(operation.phase), operation.scope.empty() ? "" : " ", operation.scope);
  if (options.costs) {
    const Cost cost = cost_of(program, operation);
    line += fmt::format("  {:.4g} GFLOP {:.4g} MB", cost.flops * 1e-9, (cost.bytes_read + cost.bytes_written) * 1e-6);
  }
  return line;
}

}  // namespace

std::string to_string(const Program& program, const ProgramPrintOptions& options) {
  std::string text = fmt::format("program {}\n", program.name);
  if (options.tensors)
    for (const Tensor& tensor : program.tensors)
      if (!in_arena(tensor.role))
        text +=
            fmt::format("  {} {} : {}{}\n", role_name(tensor.role), tensor.name, type_text(tensor.type),
                        tensor.base ? fmt::format(" = {}[{}:]", program.tensor(tensor.base).name, tensor.offset) : "");
  for (const Operation& operation : program.operations)
    text += "  " + operation_line(program, operation, options) + "\n";
  return text;
}

}  // namespace colossus
