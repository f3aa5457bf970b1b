// Rotary position embedding, rotate-half over all of head_dim. Su et al. 2021.
// Pair (i, i + D/2) of a head at position p turns by p * theta^(-2 i / D). `inverse` turns back: the adjoint.
// Frequency and phase are rounded to fp32, as published models have them (fp64 in an fp64 program).
#pragma once

#include <array>
#include <numbers>

#include "program/op_interface.h"

namespace colossus {

// Llama 3.1's way to positions beyond those a model was trained on first (Llama team 2024; Hugging Face's "llama3"):
// pairs that turn fewer than `low_turns` times within original_tokens turn `factor` times slower, those that turn more
// than `high_turns` times as before, and between the two it is a straight line in the number of turns.
struct RotaryStretch {
  double factor = 1;  // 1: none
  double low_turns = 1, high_turns = 4;
  int64_t original_tokens = 8192;

  double stretch(double frequency) const {
    if (factor == 1) return frequency;
    const double turns = static_cast<double>(original_tokens) * frequency / (2 * std::numbers::pi);
    if (turns < low_turns) return frequency / factor;
    if (turns > high_turns) return frequency;
    const double share = (turns - low_turns) / (high_turns - low_turns);
    return (1 - share) * frequency / factor + share * frequency;
  }
};

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
  RotaryStretch stretched = {};
  template <class V>
  void attributes(V& v) const {
    v("head_dim", head_dim);
    v("theta", theta);
    v("inverse", inverse);
    if (stretched.factor == 1) return;
    v("factor", stretched.factor);
    v("low_turns", stretched.low_turns);
    v("high_turns", stretched.high_turns);
    v("original_tokens", stretched.original_tokens);
  }
};

Status infer(const Rotary& op, Inference& io);
Cost cost(const Rotary& op, const OpShapes& shapes);
void adjoint(const Rotary& op, Adjoint& a);
void partition(const Rotary& op, Partition& p);

}  // namespace colossus
