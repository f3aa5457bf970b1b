// y = f(x), and the gated form y = f(gate) * up.
#pragma once

#include <array>

#include "ops/activation/activation_kind.h"
#include "program/op_interface.h"

namespace colossus {

struct ActivationAttributes {
  ActivationKind kind = ActivationKind::kGeluTanh;
  template <class V>
  void attributes(V& v) const {
    v("kind", kind);
  }
};

struct Activation : ActivationAttributes {
  static constexpr std::string_view kName = "activation";
  enum In { kX };
  static constexpr std::array kInputs = {Operand{"x"}};
  enum Out { kY };
  static constexpr std::array kOutputs = {Operand{"y"}};  // like x
};

struct ActivationGrad : ActivationAttributes {
  static constexpr std::string_view kName = "activation_grad";
  enum In { kDy, kX };
  static constexpr std::array kInputs = {Operand{"dy"}, Operand{"x"}};
  enum Out { kDx };
  static constexpr std::array kOutputs = {Operand{"dx"}};
};

// Shazeer 2020, "GLU Variants Improve Transformer".
struct GatedActivation : ActivationAttributes {
  static constexpr std::string_view kName = "gated_activation";
  enum In { kGate, kUp };
  static constexpr std::array kInputs = {Operand{"gate"}, Operand{"up"}};  // the same shape and dtype
  enum Out { kY };
  static constexpr std::array kOutputs = {Operand{"y"}};
};

struct GatedActivationGrad : ActivationAttributes {
  static constexpr std::string_view kName = "gated_activation_grad";
  enum In { kDy, kGate, kUp };
  static constexpr std::array kInputs = {Operand{"dy"}, Operand{"gate"}, Operand{"up"}};
  enum Out { kDgate, kDup };
  static constexpr std::array kOutputs = {Operand{"dgate"}, Operand{"dup"}};
};

Status infer(const Activation& op, Inference& io);
Cost cost(const Activation& op, const OpShapes& shapes);
void adjoint(const Activation& op, Adjoint& a);
void partition(const Activation& op, Partition& p);
Status infer(const ActivationGrad& op, Inference& io);
Cost cost(const ActivationGrad& op, const OpShapes& shapes);
Status infer(const GatedActivation& op, Inference& io);
Cost cost(const GatedActivation& op, const OpShapes& shapes);
void adjoint(const GatedActivation& op, Adjoint& a);
void partition(const GatedActivation& op, Partition& p);
Status infer(const GatedActivationGrad& op, Inference& io);
Cost cost(const GatedActivationGrad& op, const OpShapes& shapes);

}  // namespace colossus
