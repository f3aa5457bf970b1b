// Rows sorted by group, each group with a matrix of its own: the experts of a mixture.
// Rows offsets[e] .. offsets[e+1] of `a` belong to expert e; the product of rows from offsets[E] on is zero.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct GroupedMatmul {
  static constexpr std::string_view kName = "grouped_matmul";
  enum In { kA, kB, kOffsets, kAddend };
  static constexpr std::array kInputs = {
      Operand{"a"},                               // (S, K)
      Operand{"b"},                               // (E, K, N), a parameter; with transpose_b (E, N, K)
      Operand{"offsets"},                         // (E + 1) i32, ascending from 0
      Operand{"addend", OperandKind::kOptional},  // like y
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // (S, N) in the dtype of a
  };
  bool transpose_b = false;
  int64_t room = 0;  // S is so many times the rows that belong to experts on average, for the cost; 0: they all do
  template <class V>
  void attributes(V& v) const {
    v("transpose_b", transpose_b);
    v("room", room);
  }
};

struct GroupedMatmulGradWeight {
  static constexpr std::string_view kName = "grouped_matmul_grad_weight";
  enum In { kA, kDy, kOffsets, kDb };
  static constexpr std::array kInputs = {
      Operand{"a"},                          // (S, K)
      Operand{"dy"},                         // (S, N)
      Operand{"offsets"},                    // (E + 1) i32
      Operand{"db", OperandKind::kMutated},  // (E, K, N): a_e^T @ dy_e is added into db_e
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  int64_t room = 0;
  template <class V>
  void attributes(V& v) const {
    v("room", room);
  }
};

Status infer(const GroupedMatmul& op, Inference& io);
Cost cost(const GroupedMatmul& op, const OpShapes& shapes);
void adjoint(const GroupedMatmul& op, Adjoint& a);
// As the weight lies: whole experts by their number, or columns or rows of each.
void partition(const GroupedMatmul& op, Partition& p);
Status infer(const GroupedMatmulGradWeight& op, Inference& io);
Cost cost(const GroupedMatmulGradWeight& op, const OpShapes& shapes);

}  // namespace colossus
