// y = f(alpha * op(a) @ op(b) + bias) + addend. The leading dimensions of `a` are rows: (B, T, K) is (B*T, K).
// `b` is rounded to the dtype of `a`; sums are fp32 (fp64 for fp64).
#pragma once

#include <array>

#include "ops/activation/activation_kind.h"
#include "program/op_interface.h"

namespace colossus {

struct Matmul {
  static constexpr std::string_view kName = "matmul";
  enum In { kA, kB, kBias, kAddend, kInto };
  static constexpr std::array kInputs = {
      Operand{"a"},  // (..., K); with transpose_a (..., M): its rows are the K of the sum
      Operand{"b"},  // (K, N); with transpose_b (N, K). With transpose_a: (..., N), rows as in a
      Operand{"bias", OperandKind::kOptional},         // (N), a parameter
      Operand{"addend", OperandKind::kOptional},       // like y
      Operand{"into", OperandKind::kOptionalMutated},  // (M, N) fp32: the product is added into it and there is no y
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y", OperandKind::kOptional},  // (..., N) in `dtype`; absent when `into` is given
  };
  bool transpose_a = false;  // a weight gradient: op(a) = a^T, (M, K)
  bool transpose_b = false;
  double alpha = 1;
  ActivationKind activation = ActivationKind::kNone;  // f, set by the fuse pass for inference
  DType dtype = DType::kF32;                          // of y
  template <class V>
  void attributes(V& v) const {
    v("transpose_a", transpose_a);
    v("transpose_b", transpose_b);
    v("alpha", alpha);
    v("activation", activation);
    v("dtype", dtype);
  }
};

// Summed over fixed blocks of rows, then over blocks in order.
struct BiasGrad {
  static constexpr std::string_view kName = "bias_grad";
  enum In { kDy, kDbias };
  static constexpr std::array kInputs = {
      Operand{"dy"},                            // (..., N)
      Operand{"dbias", OperandKind::kMutated},  // (N), the column sums of dy are added into it
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  template <class V>
  void attributes(V&) const {}
};

// y = x + bias, where the bias cannot be part of the product: the product is a sum over ranks.
struct AddBias {
  static constexpr std::string_view kName = "add_bias";
  enum In { kX, kBias };
  static constexpr std::array kInputs = {
      Operand{"x"},     // (..., N)
      Operand{"bias"},  // (N), a parameter
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // like x
  };
  template <class V>
  void attributes(V&) const {}
};

Status infer(const Matmul& op, Inference& io);
Cost cost(const Matmul& op, const OpShapes& shapes);
void adjoint(const Matmul& op, Adjoint& a);
// As the weight lies (Shoeybi et al. 2019, with the tokens cut between products as in Korthikanti et al. 2022): cut by
// columns, the tokens are gathered before; cut by rows, the products are summed and the tokens cut again behind.
void partition(const Matmul& op, Partition& p);
Status infer(const BiasGrad& op, Inference& io);
Cost cost(const BiasGrad& op, const OpShapes& shapes);
Status infer(const AddBias& op, Inference& io);
Cost cost(const AddBias& op, const OpShapes& shapes);
void adjoint(const AddBias& op, Adjoint& a);
void partition(const AddBias& op, Partition& p);

}  // namespace colossus
