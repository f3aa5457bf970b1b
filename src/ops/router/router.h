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

// How many slots each expert was given.
struct ExpertCounts {
  static constexpr std::string_view kName = "expert_counts";
  enum In { kExperts };
  static constexpr std::array kInputs = {
      Operand{"experts"},  // (B, T, k) i32
  };
  enum Out { kCounts };
  static constexpr std::array kOutputs = {
      Operand{"counts"},  // (E) i64
  };
  int64_t num_experts = 0;  // E
  template <class V>
  void attributes(V& v) const {
    v("num_experts", num_experts);
  }
};

// The terms of the auxiliary loss that a rank's tokens add: N and f are those of all ranks' tokens, in `counts`.
struct RouterLoss : RouterAttributes {
  static constexpr std::string_view kName = "router_loss";
  enum In { kLogits, kCounts };
  static constexpr std::array kInputs = {
      Operand{"logits"},  // (B, T, E) f32
      Operand{"counts"},  // (E) i64: slots given to each expert, N * k in all
  };
  enum Out { kAux };
  static constexpr std::array kOutputs = {
      Operand{"aux"},  // () f32
  };
};

struct RouterLossGrad : RouterAttributes {
  static constexpr std::string_view kName = "router_loss_grad";
  enum In { kDaux, kLogits, kCounts };
  static constexpr std::array kInputs = {
      Operand{"daux"},    // () f32
      Operand{"logits"},  // (B, T, E) f32
      Operand{"counts"},  // (E) i64
  };
  enum Out { kDlogits };
  static constexpr std::array kOutputs = {
      Operand{"dlogits"},  // (B, T, E) f32
  };
};

Status infer(const Router& op, Inference& io);
Cost cost(const Router& op, const OpShapes& shapes);
void adjoint(const Router& op, Adjoint& a);
// Each rank chooses for its tokens. The auxiliary loss is one of all tokens: it becomes a RouterLoss, so that the
// choice does not wait for the other ranks' counts.
void partition(const Router& op, Partition& p);
Status infer(const RouterGrad& op, Inference& io);
Cost cost(const RouterGrad& op, const OpShapes& shapes);
Status infer(const ExpertCounts& op, Inference& io);
Cost cost(const ExpertCounts& op, const OpShapes& shapes);
Status infer(const RouterLoss& op, Inference& io);
Cost cost(const RouterLoss& op, const OpShapes& shapes);
void adjoint(const RouterLoss& op, Adjoint& a);
void partition(const RouterLoss& op, Partition& p);
Status infer(const RouterLossGrad& op, Inference& io);
Cost cost(const RouterLossGrad& op, const OpShapes& shapes);

}  // namespace colossus
