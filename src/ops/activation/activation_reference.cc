#include <cmath>
#include <numbers>

#include "device/cpu/cpu_kernel.h"
#include "ops/activation/activation.h"

namespace colossus {
namespace {

struct ValueAndSlope {
  double value, slope;
};

// (1 + tanh u) / 2 written as sigmoid(2 u), which keeps its digits where tanh is near -1.
ValueAndSlope gelu_tanh(double x) {
  const double k = std::sqrt(2 / std::numbers::pi);
  const double u = k * (x + 0.044715 * x * x * x), du = k * (1 + 3 * 0.044715 * x * x);
  const double s = 1 / (1 + std::exp(-2 * u));
  return {x * s, s + x * s * (1 - s) * 2 * du};
}

ValueAndSlope silu(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return {x * s, s + x * s * (1 - s)};
}

ValueAndSlope relu2(double x) { return x > 0 ? ValueAndSlope{x * x, 2 * x} : ValueAndSlope{0, 0}; }

ValueAndSlope activate(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kNone: return {x, 1};
    case ActivationKind::kGeluTanh: return gelu_tanh(x);
    case ActivationKind::kSilu: return silu(x);
    case ActivationKind::kRelu2: return relu2(x);
  }
  return {};
}

}  // namespace

template <>
void run_reference(const Activation& op, const ReferenceCall& call) {
  const View &x = call.input(Activation::kX), &y = call.output(Activation::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, activate(op.kind, x.get(i)).value);
}

template <>
void run_reference(const ActivationGrad& op, const ReferenceCall& call) {
  using A = ActivationGrad;
  const View &dy = call.input(A::kDy), &x = call.input(A::kX), &dx = call.output(A::kDx);
  for (int64_t i = 0; i < dx.num_elements(); ++i) dx.set(i, dy.get(i) * activate(op.kind, x.get(i)).slope);
}

template <>
void run_reference(const GatedActivation& op, const ReferenceCall& call) {
  using A = GatedActivation;
  const View &gate = call.input(A::kGate), &up = call.input(A::kUp), &y = call.output(A::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, activate(op.kind, gate.get(i)).value * up.get(i));
}

template <>
void run_reference(const GatedActivationGrad& op, const ReferenceCall& call) {
  using A = GatedActivationGrad;
  const View &dy = call.input(A::kDy), &gate = call.input(A::kGate), &up = call.input(A::kUp);
  for (int64_t i = 0; i < dy.num_elements(); ++i) {
    const auto [value, slope] = activate(op.kind, gate.get(i));
    call.output(A::kDgate).set(i, dy.get(i) * up.get(i) * slope);
    call.output(A::kDup).set(i, dy.get(i) * value);
  }
}

}  // namespace colossus
