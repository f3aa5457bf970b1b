// The size of all gradients, and what to multiply them by.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

// Per tensor: fixed blocks in fp64, blocks in order; then tensors in order.
struct GradNorm {
  static constexpr std::string_view kName = "grad_norm";
  enum In { kGrads };
  static constexpr std::array kInputs = {
      Operand{"grads", OperandKind::kVariadic},  // f32, any shapes
  };
  enum Out { kNorm };
  static constexpr std::array kOutputs = {
      Operand{"norm"},  // () f32: sqrt of the sum of squares of all elements
  };
  template <class V>
  void attributes(V&) const {}
};

// A NaN scale tells optimizers to leave everything as it is: the step is skipped (Pascanu et al. 2013 for the
// clipping).
struct ClipScale {
  static constexpr std::string_view kName = "clip_scale";
  enum In { kNorm, kLoss };
  static constexpr std::array kInputs = {
      Operand{"norm"},                          // () f32
      Operand{"loss", OperandKind::kOptional},  // () f32
  };
  enum Out { kScale };
  static constexpr std::array kOutputs = {
      Operand{"scale"},  // () f32: min(1, max_norm / (norm + 1e-6)); NaN when norm or loss is not finite
  };
  double max_norm = 1;  // 0: no clipping
  template <class V>
  void attributes(V& v) const {
    v("max_norm", max_norm);
  }
};

Status infer(const GradNorm& op, Inference& io);
Cost cost(const GradNorm& op, const OpShapes& shapes);
Status infer(const ClipScale& op, Inference& io);
Cost cost(const ClipScale& op, const OpShapes& shapes);

}  // namespace colossus
