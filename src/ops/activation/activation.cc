#include "ops/activation/activation.h"

#include "program/builder.h"

namespace colossus {
namespace {

// Operations of f and of its slope: an exponential is counted as the dozen operations it takes.
double flops_per_element(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kNone: return 0;
    case ActivationKind::kGeluTanh: return 20;
    case ActivationKind::kSilu: return 15;
    case ActivationKind::kRelu2: return 2;
  }
  return 0;
}

Cost activation_cost(const OpShapes& shapes, std::span<const Operand> inputs, double flops) {
  Cost cost = shapes.memory_traffic(inputs);
  cost.flops = flops * static_cast<double>(shapes.out_shape(0).num_elements());
  return cost;
}

}  // namespace

Status infer(const Activation&, Inference& io) {
  RETURN_IF_ERROR(io.need_float(Activation::kX));
  io.set_output(Activation::kY, io.shape(Activation::kX), io.input(Activation::kX).dtype);
  return ok_status();
}
Cost cost(const Activation& op, const OpShapes& shapes) {
  return activation_cost(shapes, Activation::kInputs, flops_per_element(op.kind));
}
void adjoint(const Activation& op, Adjoint& a) {
  using A = Activation;
  if (!a.wants(A::kX)) return;
  a.contribute(A::kX, a.builder().emit(ActivationGrad{op}, {a.output_grad(A::kY), a.input(A::kX)}));
}
// Whatever a rank has of x, it has of y.
void partition(const Activation& op, Partition& p) {
  const Placement x = p.placement(Activation::kX);
  emit_part(p, op, {p.input(Activation::kX)}, {x});
}

Status infer(const ActivationGrad&, Inference& io) {
  using A = ActivationGrad;
  RETURN_IF_ERROR(io.need_float(A::kDy));
  RETURN_IF_ERROR(io.need_like(A::kX, A::kDy));
  io.set_output(A::kDx, io.shape(A::kX), io.input(A::kX).dtype);
  return ok_status();
}
Cost cost(const ActivationGrad& op, const OpShapes& shapes) {
  return activation_cost(shapes, ActivationGrad::kInputs, flops_per_element(op.kind) + 6);
}

Status infer(const GatedActivation&, Inference& io) {
  using A = GatedActivation;
  RETURN_IF_ERROR(io.need_float(A::kGate));
  RETURN_IF_ERROR(io.need_like(A::kUp, A::kGate));
  io.set_output(A::kY, io.shape(A::kGate), io.input(A::kGate).dtype);
  return ok_status();
}
Cost cost(const GatedActivation& op, const OpShapes& shapes) {
  return activation_cost(shapes, GatedActivation::kInputs, flops_per_element(op.kind) + 1);
}
void adjoint(const GatedActivation& op, Adjoint& a) {
  using A = GatedActivation;
  if (!a.wants(A::kGate) && !a.wants(A::kUp)) return;
  a.builder().emit(GatedActivationGrad{op}, {a.output_grad(A::kY), a.input(A::kGate), a.input(A::kUp)});
  const std::vector<TensorId> grads = a.builder().last_outputs();
  if (grads.empty()) return;  // the builder holds the error
  if (a.wants(A::kGate)) a.contribute(A::kGate, grads[GatedActivationGrad::kDgate]);
  if (a.wants(A::kUp)) a.contribute(A::kUp, grads[GatedActivationGrad::kDup]);
}
void partition(const GatedActivation& op, Partition& p) {
  using A = GatedActivation;
  const Placement gate = p.placement(A::kGate);
  emit_part(p, op, {p.input(A::kGate), p.input(A::kUp, gate)}, {gate});
}

Status infer(const GatedActivationGrad&, Inference& io) {
  using A = GatedActivationGrad;
  RETURN_IF_ERROR(io.need_float(A::kDy));
  RETURN_IF_ERROR(io.need_like(A::kGate, A::kDy));
  RETURN_IF_ERROR(io.need_like(A::kUp, A::kDy));
  for (int i : {A::kDgate, A::kDup}) io.set_output(i, io.shape(A::kDy), io.input(A::kDy).dtype);
  return ok_status();
}
Cost cost(const GatedActivationGrad& op, const OpShapes& shapes) {
  return activation_cost(shapes, GatedActivationGrad::kInputs, flops_per_element(op.kind) + 8);
}

}  // namespace colossus
