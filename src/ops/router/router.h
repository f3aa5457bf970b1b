// Chooses top_k of E experts per token: P = softmax(cap(logits)) over all E in fp32, then the k with the largest logits
// (ties: the lower index; NaN below every number, so that a choice is always k different experts).
// gates are P of the chosen, renormalised to sum 1 when asked.
// aux = balance_loss * E * sum_e f_e mean(P_e) + z_loss * mean(logsumexp(logits)^2), f_e the share of slots given to e
// (Fedus et al. 2021, eq. 4, over k slots; Zoph et al. 2022, eq. 5, on the capped logits).
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct RouterAttributes {
  int64_t top_k = 2;
  double softcap = 0;  // 0 is none
  bool renormalize = false;
  double balance_loss = 0;  // coefficient
  double z_loss = 0;        // coefficient
  template <class V>
  void attributes(V& v) const {
    v("top_k", top_k);
    v("softcap", softcap);
    v("renormalize", renormalize);
    v("balance_loss", balance_loss);
    v("z_loss", z_loss);
  }
};

struct Router : RouterAttributes {
  static constexpr std::string_view kName = "router";
  enum In { kLogits };
  static constexpr std::array kInputs = {
      Operand{"logits"},  // (B, T, E) f32
  };
  enum Out { kGates, kExperts, kProbs, kAux };
  static constexpr std::array kOutputs = {
      Operand{"gates"},    // (B, T, k) f32
      Operand{"experts"},  // (B, T, k) i32
      Operand{"probs"},    // (B, T, E) f32
      Operand{"aux"},      // () f32
  };
};

// f_e is a count: no gradient flows through it.
struct RouterGrad : RouterAttributes {
  static constexpr std::string_view kName = "router_grad";
  enum In { kDgates, kDaux, kLogits, kProbs, kExperts, kGates };
  static constexpr std::array kInputs = {
      Operand{"dgates", OperandKind::kOptional},  // (B, T, k) f32
      Operand{"daux", OperandKind::kOptional},    // () f32
      Operand{"logits"},                          // (B, T, E) f32
      Operand{"probs"},                           // (B, T, E) f32
      Operand{"experts"},                         // (B, T, k) i32
      Operand{"gates"},                           // (B, T, k) f32
  };
  enum Out { kDlogits };
  static constexpr std::array kOutputs = {
      Operand{"dlogits"},  // (B, T, E) f32
  };
};

Status infer(const Router& op, Inference& io);
Cost cost(const Router& op, const OpShapes& shapes);
void adjoint(const Router& op, Adjoint& a);
Status infer(const RouterGrad& op, Inference& io);
Cost cost(const RouterGrad& op, const OpShapes& shapes);

}  // namespace colossus
