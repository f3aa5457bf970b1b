// Sorts tokens by expert (stable: by expert, then by token) and brings them back. Dropless: every slot has a row.
// N = B * T tokens, k slots each, S = N * k rows.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct TokenDispatch {
  static constexpr std::string_view kName = "token_dispatch";
  enum In { kX, kExperts };
  static constexpr std::array kInputs = {
      Operand{"x"},        // (B, T, C)
      Operand{"experts"},  // (B, T, k) i32
  };
  enum Out { kRows, kOffsets, kSlotRow };
  static constexpr std::array kOutputs = {
      Operand{"rows"},      // (S, C): x of each slot, sorted by expert
      Operand{"offsets"},   // (E + 1) i32: where each expert begins
      Operand{"slot_row"},  // (B, T, k) i32: the row of each slot
  };
  int64_t num_experts = 0;  // E
  template <class V>
  void attributes(V& v) const {
    v("num_experts", num_experts);
  }
};

struct TokenDispatchGrad {
  static constexpr std::string_view kName = "token_dispatch_grad";
  enum In { kDrows, kSlotRow, kAddend };
  static constexpr std::array kInputs = {
      Operand{"drows"},                           // (S, C)
      Operand{"slot_row"},                        // (B, T, k) i32
      Operand{"addend", OperandKind::kOptional},  // like dx
  };
  enum Out { kDx };
  static constexpr std::array kOutputs = {
      Operand{"dx"},  // (B, T, C): the sum over a token's slots, in order
  };
  template <class V>
  void attributes(V&) const {}
};

struct TokenCombine {
  static constexpr std::string_view kName = "token_combine";
  enum In { kRows, kGates, kSlotRow, kAddend };
  static constexpr std::array kInputs = {
      Operand{"rows"},                            // (S, C)
      Operand{"gates"},                           // (B, T, k) f32
      Operand{"slot_row"},                        // (B, T, k) i32
      Operand{"addend", OperandKind::kOptional},  // like y
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // (B, T, C): sum over slots of gate * row, plus addend
  };
  template <class V>
  void attributes(V&) const {}
};

struct TokenCombineGrad {
  static constexpr std::string_view kName = "token_combine_grad";
  enum In { kDy, kRows, kGates, kSlotRow };
  static constexpr std::array kInputs = {
      Operand{"dy"},        // (B, T, C)
      Operand{"rows"},      // (S, C)
      Operand{"gates"},     // (B, T, k) f32
      Operand{"slot_row"},  // (B, T, k) i32
  };
  enum Out { kDrows, kDgates };
  static constexpr std::array kOutputs = {
      Operand{"drows"},   // (S, C)
      Operand{"dgates"},  // (B, T, k) f32
  };
  template <class V>
  void attributes(V&) const {}
};

Status infer(const TokenDispatch& op, Inference& io);
Cost cost(const TokenDispatch& op, const OpShapes& shapes);
void adjoint(const TokenDispatch& op, Adjoint& a);
// A rank sorts its own tokens; where ranks share the experts, the rows then go to those that have them.
void partition(const TokenDispatch& op, Partition& p);
Status infer(const TokenDispatchGrad& op, Inference& io);
Cost cost(const TokenDispatchGrad& op, const OpShapes& shapes);
Status infer(const TokenCombine& op, Inference& io);
Cost cost(const TokenCombine& op, const OpShapes& shapes);
void adjoint(const TokenCombine& op, Adjoint& a);
void partition(const TokenCombine& op, Partition& p);
Status infer(const TokenCombineGrad& op, Inference& io);
Cost cost(const TokenCombineGrad& op, const OpShapes& shapes);

}  // namespace colossus
