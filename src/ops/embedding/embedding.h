// Token embedding: a row of the table per token, times `scale`, plus a learned position row when there is a position
// table.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

// A token out of range is a fault of the data: kernels read row 0 instead of outside the table; loaders check. So do
// positions out of range.
struct Embedding {
  static constexpr std::string_view kName = "embedding";
  enum In { kTable, kTokens, kPositionTable, kPositions };
  static constexpr std::array kInputs = {
      Operand{"table"},                                   // (V, C), a parameter
      Operand{"tokens"},                                  // (B, T) i32, each in [0, V)
      Operand{"position_table", OperandKind::kOptional},  // (T_max, C), a parameter
      Operand{"positions", OperandKind::kOptional},       // (B, T) i32 rows of position_table; the column t when absent
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // (B, T, C) in `dtype`: scale * table[tokens] + position_table[positions]
  };
  double scale = 1;  // of the token row only
  DType dtype = DType::kF32;
  template <class V>
  void attributes(V& v) const {
    v("scale", scale);
    v("dtype", dtype);
  }
};

// Rows of one token are added in the order of their positions, whatever the number of threads.
struct EmbeddingGrad {
  static constexpr std::string_view kName = "embedding_grad";
  enum In { kDy, kTokens, kDtable, kDpositionTable, kPositions };
  static constexpr std::array kInputs = {
      Operand{"dy"},                                              // (B, T, C)
      Operand{"tokens"},                                          // (B, T) i32
      Operand{"dtable", OperandKind::kMutated},                   // (V, C), added into
      Operand{"dposition_table", OperandKind::kOptionalMutated},  // (T_max, C), added into
      Operand{"positions", OperandKind::kOptional},               // (B, T) i32
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  double scale = 1;
  template <class V>
  void attributes(V& v) const {
    v("scale", scale);
  }
};

Status infer(const Embedding& op, Inference& io);
Cost cost(const Embedding& op, const OpShapes& shapes);
void adjoint(const Embedding& op, Adjoint& a);
void partition(const Embedding& op, Partition& p);
Status infer(const EmbeddingGrad& op, Inference& io);
Cost cost(const EmbeddingGrad& op, const OpShapes& shapes);

}  // namespace colossus
