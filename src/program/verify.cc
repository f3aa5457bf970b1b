#include <fmt/format.h>

#include <unordered_set>

#include "program/program.h"

namespace colossus {
namespace {

class Verifier {
 public:
  explicit Verifier(const Program& program)
      : program_(program), written_(program.tensors.size(), false), read_(program.tensors.size(), false) {}

  Status run() {
    std::unordered_set<std::string_view> names;
    for (const Tensor& tensor : program_.tensors)
      if (!names.insert(tensor.name).second) fault(fmt::format("two tensors are called {}", tensor.name));
    for (const Tensor& tensor : program_.tensors)
      if (tensor.base) check_view(tensor);
    for (size_t i = 0; i < program_.operations.size(); ++i) check(i);
    for (size_t i = 0; i < program_.tensors.size(); ++i)
      if (program_.tensors[i].role == Role::kOutput && !program_.tensors[i].base && !written_[i])
        fault(fmt::format("output {} is never written", program_.tensors[i].name));
    return faults_.empty() ? ok_status() : invalid(faults_).at("program " + program_.name);
  }

 private:
  void fault(const std::string& text) { faults_ += (faults_.empty() ? "" : "\n  ") + text; }

  void check_view(const Tensor& view) {
    if (!known(view.base)) return fault(fmt::format("{} is a view of no tensor of this program", view.name));
    const Tensor& base = program_.tensor(view.base);
    if (base.base || base.role != view.role || base.type.dtype != view.type.dtype)
      fault(fmt::format("{} ({} {}) cannot be a view of {} ({} {})", view.name, role_name(view.role),
                        dtype_name(view.type.dtype), base.name, role_name(base.role), dtype_name(base.type.dtype)));
    const int64_t size = base.type.shape.num_elements(), needed = view.type.shape.num_elements();
    if (view.offset < 0 || view.offset > size || needed > size - view.offset)
      fault(fmt::format("{} takes {} elements from {} on of {}, which has {}", view.name, needed, view.offset,
                        base.name, size));
  }

  bool known(TensorId id) const { return id.index < static_cast<int32_t>(program_.tensors.size()); }

  void check(size_t index) {
    const Operation& operation = program_.operations[index];
    const std::string place = fmt::format("operation {} {} ({})", index, op_name(operation.op), operation.scope);
    const auto operands = input_operands(operation.op);
    const auto results = output_operands(operation.op);
    const bool variadic = !operands.empty() && operands.back().kind == OperandKind::kVariadic;
    if ((!variadic && operation.inputs.size() != operands.size()) || operation.outputs.size() != results.size())
      return fault(fmt::format("{}: {} inputs and {} outputs; needed {} and {}", place, operation.inputs.size(),
                               operation.outputs.size(), operands.size(), results.size()));
    for (TensorId id : operation.inputs)
      if (!known(id)) return fault(place + ": an input names no tensor of this program");
    for (TensorId id : operation.outputs)
      if (!known(id)) return fault(place + ": an output names no tensor of this program");
    if (check_inputs(operation, place)) check_types(operation, place);
    for (TensorId id : operation.outputs) {
      if (!id) continue;
      const Role role = program_.tensor(id).role;
      if (!may_be_written(role))
        fault(fmt::format("{}: writes {}, a {}", place, program_.tensor(id).name, role_name(role)));
      // Of another program's stash a part may be read, of this one's only what was written.
      if (role == Role::kStash && read_[static_cast<size_t>(id.index)])
        fault(fmt::format("{}: writes {}, which was read before", place, program_.tensor(id).name));
      if (program_.tensor(id).base && role != Role::kStash)
        fault(fmt::format("{}: writes {}, a view", place, program_.tensor(id).name));
      if (written_[static_cast<size_t>(id.index)])
        fault(fmt::format("{}: writes {} again", place, program_.tensor(id).name));
      written_[static_cast<size_t>(id.index)] = true;
    }
  }

  // False when a required operand is absent: types then cannot be inferred.
  bool check_inputs(const Operation& operation, const std::string& place) {
    bool complete = true;
    for (size_t i = 0; i < operation.inputs.size(); ++i) {
      const TensorId id = operation.inputs[i];
      const Operand& operand = input_operand(operation.op, i);
      if (!id) {
        if (operand.optional()) continue;
        fault(fmt::format("{}: required operand {} is absent", place, operand.name));
        complete = false;
        continue;
      }
      const Tensor& tensor = program_.tensor(id);
      if (in_arena(tensor.role) && !written_[static_cast<size_t>(program_.root(id).index)])
        fault(fmt::format("{}: reads {} before it is written", place, tensor.name));
      read_[static_cast<size_t>(id.index)] = true;
      if (operand.mutated() && !may_be_mutated(tensor.role))
        fault(fmt::format("{}: changes {} in place, but it is an {}", place, tensor.name, role_name(tensor.role)));
    }
    return complete;
  }

  // Inferred output types must be those the tensors have.
  void check_types(const Operation& operation, const std::string& place) {
    std::vector<std::optional<TensorType>> types;
    for (TensorId id : operation.inputs) types.push_back(id ? std::optional(program_.tensor(id).type) : std::nullopt);
    Inference inference(op_name(operation.op), input_operands(operation.op), output_operands(operation.op),
                        std::move(types));
    const Status inferred = std::visit([&](const auto& op) { return infer(op, inference); }, operation.op);
    if (!inferred.ok()) return fault(place + ": " + inferred.message());
    const auto outputs = inference.take_outputs();
    for (size_t i = 0; i < outputs.size(); ++i) {
      const TensorId id = operation.outputs[i];
      if (outputs[i] && !id && !output_operands(operation.op)[i].optional())
        fault(fmt::format("{}: output {} is absent", place, output_operands(operation.op)[i].name));
      if (id && (!outputs[i] || !(program_.tensor(id).type == *outputs[i])))
        fault(fmt::format("{}: output {} is {} {}; the operation makes {}", place, program_.tensor(id).name,
                          program_.tensor(id).type.shape.to_string(), dtype_name(program_.tensor(id).type.dtype),
                          outputs[i] ? outputs[i]->shape.to_string() : "nothing"));
    }
  }

  const Program& program_;
  std::vector<bool> written_, read_;  // by tensor
  std::string faults_;
};

}  // namespace

Status verify(const Program& program) { return Verifier(program).run(); }

}  // namespace colossus
