// y = (x - mean) / std * scale + bias over the last dimension, in fp32. Ba, Kiros and Hinton 2016.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  enum In { kX, kScale, kBias };
  static constexpr std::array kInputs = {
      Operand{"x"},                             // (..., C)
      Operand{"scale"},                         // (C), a parameter
      Operand{"bias", OperandKind::kOptional},  // (C), a parameter
  };
  enum Out { kY, kMean, kRstd };
  static constexpr std::array kOutputs = {
      Operand{"y"},     // like x
      Operand{"mean"},  // (...) f32
      Operand{"rstd"},  // (...) f32
  };
  double eps = 1e-5;
  template <class V>
  void attributes(V& v) const {
    v("eps", eps);
  }
};

struct LayerNormGrad {
  static constexpr std::string_view kName = "layer_norm_grad";
  enum In { kDy, kX, kScale, kMean, kRstd, kDscale, kDbias, kAddend };
  static constexpr std::array kInputs = {
      Operand{"dy"},                                     // like x
      Operand{"x"},                                      // (..., C)
      Operand{"scale"},                                  // (C)
      Operand{"mean"},                                   // (...) f32
      Operand{"rstd"},                                   // (...) f32
      Operand{"dscale", OperandKind::kOptionalMutated},  // (C), added into
      Operand{"dbias", OperandKind::kOptionalMutated},   // (C), added into
      Operand{"addend", OperandKind::kOptional},         // like x: added to dx
  };
  enum Out { kDx };
  static constexpr std::array kOutputs = {
      Operand{"dx"},  // like x
  };
  template <class V>
  void attributes(V&) const {}
};

Status infer(const LayerNorm& op, Inference& io);
Cost cost(const LayerNorm& op, const OpShapes& shapes);
void adjoint(const LayerNorm& op, Adjoint& a);
void partition(const LayerNorm& op, Partition& p);
Status infer(const LayerNormGrad& op, Inference& io);
Cost cost(const LayerNormGrad& op, const OpShapes& shapes);

}  // namespace colossus
