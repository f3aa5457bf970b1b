// Adam with decoupled weight decay. Kingma and Ba 2014; Loshchilov and Hutter 2017, Algorithm 2.
// g = scale * grad; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
// param -= lr * ((m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * param)
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct AdamW {
  static constexpr std::string_view kName = "adamw";
  enum In { kParam, kGrad, kM, kV, kLr, kStep, kScale };
  static constexpr std::array kInputs = {
      Operand{"param", OperandKind::kMutated},  //
      Operand{"grad"},                          // like param, f32
      Operand{"m", OperandKind::kMutated},      // like param
      Operand{"v", OperandKind::kMutated},      // like param
      Operand{"lr"},                            // () f32
      Operand{"step"},                          // () i64: t, from 1
      Operand{"scale"},                         // () f32; NaN: nothing is touched
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0;
  template <class V>
  void attributes(V& v) const {
    v("beta1", beta1);
    v("beta2", beta2);
    v("eps", eps);
    v("weight_decay", weight_decay);
  }
};

Status infer(const AdamW& op, Inference& io);
Cost cost(const AdamW& op, const OpShapes& shapes);

}  // namespace colossus
