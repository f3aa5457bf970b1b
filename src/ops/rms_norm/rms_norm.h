// y = addend + x / rms(x) * scale, rms over the last dimension in fp32. Zhang and Sennrich 2019. A scale that is
// shorter than the rows of x belongs to each of their equal parts, which are then normed by themselves: heads (the q
// and k norms of Qwen3). The norm is rounded to the dtype of x before the addend is added, as the published Grok does.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct RmsNorm {
  static constexpr std::string_view kName = "rms_norm";
  enum In { kX, kScale, kAddend };
  static constexpr std::array kInputs = {
      Operand{"x"},                               // (..., C)
      Operand{"scale"},                           // (C) or (D), C = H D: a parameter, used as it is (not 1 + scale)
      Operand{"addend", OperandKind::kOptional},  // like x: the residual stream
  };
  enum Out { kY, kRstd };
  static constexpr std::array kOutputs = {
      Operand{"y"},     // like x
      Operand{"rstd"},  // (...) or (..., H) f32: 1 / sqrt(mean(x^2) + eps), kept for the adjoint
  };
  double eps = 1e-5;
  template <class V>
  void attributes(V& v) const {
    v("eps", eps);
  }
};

struct RmsNormGrad {
  static constexpr std::string_view kName = "rms_norm_grad";
  enum In { kDy, kX, kScale, kRstd, kDscale, kAddend };
  static constexpr std::array kInputs = {
      Operand{"dy"},     // like x
      Operand{"x"},      // (..., C)
      Operand{"scale"},  // (C) or (D)
      Operand{"rstd"},   // (...) or (..., H) f32
      Operand{"dscale",
              OperandKind::kOptionalMutated},     // like scale, added into: fixed blocks of rows, then blocks in order
      Operand{"addend", OperandKind::kOptional},  // like x: added to dx
  };
  enum Out { kDx };
  static constexpr std::array kOutputs = {
      Operand{"dx"},  // like x
  };
  template <class V>
  void attributes(V&) const {}
};

Status infer(const RmsNorm& op, Inference& io);
Cost cost(const RmsNorm& op, const OpShapes& shapes);
void adjoint(const RmsNorm& op, Adjoint& a);
void partition(const RmsNorm& op, Partition& p);
Status infer(const RmsNormGrad& op, Inference& io);
Cost cost(const RmsNormGrad& op, const OpShapes& shapes);

}  // namespace colossus
