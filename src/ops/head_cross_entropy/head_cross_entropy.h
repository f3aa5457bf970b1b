// The output head and its loss in one: logits = softcap(scale * h @ w^T), loss = mean over tokens of logsumexp -
// logit[target]. Logits exist only for a block of tokens at a time. Targets below 0 are left out of the mean.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct HeadCrossEntropyAttributes {
  double scale = 1;
  double softcap = 0;  // 0 is none
  template <class V>
  void attributes(V& v) const {
    v("scale", scale);
    v("softcap", softcap);
  }
};

struct HeadCrossEntropy : HeadCrossEntropyAttributes {
  static constexpr std::string_view kName = "head_cross_entropy";
  enum In { kH, kW, kTargets, kNumTargets };
  static constexpr std::array kInputs = {
      Operand{"h"},                                    // (B, T, C)
      Operand{"w"},                                    // (V, C), a parameter
      Operand{"targets"},                              // (B, T) i32 in [0, V), or negative
      Operand{"num_targets", OperandKind::kOptional},  // () i64: the mean is over so many; those of `targets` if absent
  };
  enum Out { kLoss, kTokenLoss };
  static constexpr std::array kOutputs = {
      Operand{"loss"},        // () f32, nats per token
      Operand{"token_loss"},  // (B, T) f32, 0 where left out
  };
};

// Computes the forward as well: the fuse pass drops the forward op of a training program, so logits are computed once.
struct HeadCrossEntropyGrad : HeadCrossEntropyAttributes {
  static constexpr std::string_view kName = "head_cross_entropy_grad";
  enum In { kDloss, kH, kW, kTargets, kDw, kNumTargets };
  static constexpr std::array kInputs = {
      Operand{"dloss"},                                // () f32
      Operand{"h"},                                    // (B, T, C)
      Operand{"w"},                                    // (V, C)
      Operand{"targets"},                              // (B, T) i32
      Operand{"dw", OperandKind::kMutated},            // (V, C), added into
      Operand{"num_targets", OperandKind::kOptional},  // () i64
  };
  enum Out { kDh, kLoss, kTokenLoss };
  static constexpr std::array kOutputs = {
      Operand{"dh"},          // (B, T, C)
      Operand{"loss"},        // () f32
      Operand{"token_loss"},  // (B, T) f32
  };
};

// How many targets are not left out, for a mean over the tokens of several ranks.
struct CountTargets {
  static constexpr std::string_view kName = "count_targets";
  enum In { kTargets };
  static constexpr std::array kInputs = {Operand{"targets"}};  // (B, T) i32
  enum Out { kNumTargets };
  static constexpr std::array kOutputs = {Operand{"num_targets"}};  // () i64
  template <class V>
  void attributes(V&) const {}
};

Status infer(const HeadCrossEntropy& op, Inference& io);
Cost cost(const HeadCrossEntropy& op, const OpShapes& shapes);
void adjoint(const HeadCrossEntropy& op, Adjoint& a);
// Each rank has the losses of its tokens; its loss is its term of the mean over the tokens of all.
void partition(const HeadCrossEntropy& op, Partition& p);
Status infer(const HeadCrossEntropyGrad& op, Inference& io);
Cost cost(const HeadCrossEntropyGrad& op, const OpShapes& shapes);
Status infer(const CountTargets& op, Inference& io);
Cost cost(const CountTargets& op, const OpShapes& shapes);

}  // namespace colossus
