// Rotary position embedding, rotate-half over all of head_dim. Su et al. 2021.
// Pair (i, i + D/2) of a head at position p turns by p * theta^(-2 i / D). `inverse` turns back: the adjoint.
// Frequency and phase are rounded to fp32, as published models have them (fp64 in an fp64 program).
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Rotary {
  static constexpr std::string_view kName = "rotary";
  enum In { kX, kPositions };
  static constexpr std::array kInputs = {
      Operand{"x"},                                  // (B, T, H * D)
      Operand{"positions", OperandKind::kOptional},  // (B, T) i32; the column t when absent
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // like x
  };
  int64_t head_dim = 0;  // D, even
  double theta = 10000;
  bool inverse = false;
  template <class V>
  void attributes(V& v) const {
    v("head_dim", head_dim);
    v("theta", theta);
    v("inverse", inverse);
  }
};

Status infer(const Rotary& op, Inference& io);
Cost cost(const Rotary& op, const OpShapes& shapes);
void adjoint(const Rotary& op, Adjoint& a);
void partition(const Rotary& op, Partition& p);

}  // namespace colossus
