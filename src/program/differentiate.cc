// Reverse-mode differentiation of a straight line: walk the operations backwards, asking each for its adjoint.

#include <fmt/format.h>

#include "program/builder.h"
#include "program/passes.h"

namespace colossus {
namespace {

class Differentiation {
 public:
  Differentiation(Program forward, std::span<const TensorId> wanted_inputs)
      : num_forward_(forward.operations.size()),
        wanted_(forward.tensors.size(), false),
        grad_(forward.tensors.size()),
        builder_(std::move(forward)) {
    for (size_t i = 0; i < wanted_.size(); ++i) wanted_[i] = program().tensors[i].role == Role::kParameter;
    for (TensorId id : wanted_inputs) wanted_[index(id)] = true;
    for (const Operation& operation : program().operations) {
      bool any = false;
      for (TensorId id : operation.inputs) any |= id && wanted_[index(id)];
      for (TensorId id : operation.outputs)
        if (id) wanted_[index(id)] = any && is_float(program().tensor(id).type.dtype);
    }
  }

  Result<Program> run(std::span<const GradientSeed> seeds, std::span<const TensorId> wanted_inputs) {
    for (const GradientSeed& seed : seeds) {
      if (program().tensor(seed.output).type.shape != program().tensor(seed.grad).type.shape)
        return invalid(fmt::format("[differentiate {}] the seed of {} has another shape", program().name,
                                   program().tensor(seed.output).name));
      grad_[index(seed.output)] = seed.grad;
    }
    builder_.set_phase(Phase::kBackward);
    for (size_t i = num_forward_; i-- > 0;) {
      visit(i);
      RETURN_IF_ERROR(builder_.status());
    }
    for (TensorId id : wanted_inputs) {
      TensorId grad = grad_of(id);
      if (!grad)
        return invalid(fmt::format("[differentiate {}] nothing that is seeded depends on {}", program().name,
                                   program().tensor(id).name));
      // A gradient that came through unchanged is the seed itself, or another input's too: an output is its own tensor.
      if (program().tensor(grad).role != Role::kActivation) grad = builder_.emit(Scale{.factor = 1}, {grad});
      RETURN_IF_ERROR(builder_.status());
      builder_.mark_output(grad, "grad." + program().tensor(id).name);
    }
    return builder_.finish();
  }

  const Program& program() const { return builder_.program(); }
  static size_t index(TensorId id) { return static_cast<size_t>(id.index); }
  Builder& builder() { return builder_; }
  bool wants(TensorId id) const { return id && index(id) < wanted_.size() && wanted_[index(id)]; }
  TensorId grad_of(TensorId id) const { return id && index(id) < grad_.size() ? grad_[index(id)] : TensorId{}; }

  void contribute(TensorId to, TensorId grad) {
    TensorId& sum = grad_[index(to)];
    sum = sum ? builder_.emit(Add{}, {sum, grad}) : grad;
  }

  TensorId accumulator(TensorId parameter) {
    const Tensor& tensor = program().tensor(parameter);
    CHECK(tensor.role == Role::kParameter, "only parameters have gradients that are added into");
    const DType dtype = statistics_dtype(tensor.type.dtype);
    return builder_.declare("grad." + tensor.name, {tensor.type.shape, dtype}, Role::kGradient);
  }

 private:
  void visit(size_t i);

  const size_t num_forward_;
  std::vector<bool> wanted_;    // by forward tensor: does it depend on a parameter or a wanted input?
  std::vector<TensorId> grad_;  // by forward tensor: its gradient so far
  Builder builder_;
};

class OperationAdjoint final : public Adjoint {
 public:
  OperationAdjoint(Differentiation& pass, const Operation& operation) : pass_(pass), operation_(operation) {}

  Builder& builder() override { return pass_.builder(); }
  TensorId input(int i) const override { return operation_.inputs.at(static_cast<size_t>(i)); }
  TensorId output(int i) const override { return operation_.outputs.at(static_cast<size_t>(i)); }
  TensorId output_grad(int i) const override { return pass_.grad_of(output(i)); }
  bool wants(int i) const override { return pass_.wants(input(i)); }
  void contribute(int i, TensorId grad) override {
    CHECK(wants(i), "a gradient for an operand that needs none");
    if (pass_.builder().status().ok()) pass_.contribute(input(i), grad);
  }
  TensorId accumulator(int i) override {
    CHECK(wants(i), "a gradient for an operand that needs none");
    return pass_.accumulator(input(i));
  }
  void fail(std::string message) override {
    builder().fail(invalid(std::move(message))
                       .at("differentiate " + std::string(op_name(operation_.op)) + " " + operation_.scope));
  }

 private:
  Differentiation& pass_;
  const Operation& operation_;
};

void Differentiation::visit(size_t i) {
  const Operation operation = program().operations[i];  // a copy: writing operations moves the original
  bool wanted = false, has_grad = false;
  for (TensorId id : operation.inputs) wanted |= wants(id);
  for (TensorId id : operation.outputs) has_grad |= static_cast<bool>(grad_of(id));
  if (!wanted || !has_grad) return;
  builder_.set_scope(operation.scope);
  OperationAdjoint context(*this, operation);
  std::visit(
      [&](const auto& op) {
        if constexpr (Differentiable<std::remove_cvref_t<decltype(op)>>)
          adjoint(op, context);
        else
          context.fail("this operation has no adjoint");
      },
      operation.op);
}

}  // namespace

Result<Program> differentiate(Program forward, std::span<const GradientSeed> seeds,
                              std::span<const TensorId> wanted_inputs) {
  return Differentiation(std::move(forward), wanted_inputs).run(seeds, wanted_inputs);
}

}  // namespace colossus
