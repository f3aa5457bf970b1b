// The size of all gradients, and what to multiply them by.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

// Blocks of kSumOfSquaresBlock elements, counted from the start of each tensor, in fp64; blocks exactly. So tensors in
// any order, cut anywhere at multiples of that, give words that add up to the same ones (base/exact_sum.h).
inline constexpr int64_t kSumOfSquaresBlock = 4096;

struct SumOfSquares {
  static constexpr std::string_view kName = "sum_of_squares";
  enum In { kGrads };
  static constexpr std::array kInputs = {
      Operand{"grads", OperandKind::kVariadic},  // f32, any shapes
  };
  enum Out { kSum };
  static constexpr std::array kOutputs = {
      Operand{"sum"},  // (ExactSum::kWords) i64: ExactSum::words() of all squares
  };
  template <class V>
  void attributes(V&) const {}
};

struct ExactSumValue {
  static constexpr std::string_view kName = "exact_sum_value";
  enum In { kSum };
  static constexpr std::array kInputs = {
      Operand{"sum"},  // (ExactSum::kWords) i64: words of an ExactSum, or of up to 2^30 of them added
  };
  enum Out { kValue };
  static constexpr std::array kOutputs = {
      Operand{"value"},  // () dtype: scale * sum or its square root; NaN when a term was not finite
  };
  double scale = 1;
  bool square_root = false;
  DType dtype = DType::kF32;  // f64 in an fp64 program
  template <class V>
  void attributes(V& v) const {
    v("scale", scale);
    v("square_root", square_root);
    v("dtype", dtype);
  }
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

Status infer(const SumOfSquares& op, Inference& io);
Cost cost(const SumOfSquares& op, const OpShapes& shapes);
Status infer(const ExactSumValue& op, Inference& io);
Cost cost(const ExactSumValue& op, const OpShapes& shapes);
Status infer(const ClipScale& op, Inference& io);
Cost cost(const ClipScale& op, const OpShapes& shapes);

}  // namespace colossus
