// Small elementwise operations on any shape.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Add {
  static constexpr std::string_view kName = "add";
  enum In { kA, kB };
  static constexpr std::array kInputs = {
      Operand{"a"},  //
      Operand{"b"},  // like a
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // like a
  };
  template <class V>
  void attributes(V&) const {}
};

struct Scale {
  static constexpr std::string_view kName = "scale";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  //
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // factor * x
  };
  double factor = 1;
  template <class V>
  void attributes(V& v) const {
    v("factor", factor);
  }
};

struct SoftCap {
  static constexpr std::string_view kName = "soft_cap";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  //
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // cap * tanh(x / cap)
  };
  double cap = 1;
  template <class V>
  void attributes(V& v) const {
    v("cap", cap);
  }
};

struct SoftCapGrad {
  static constexpr std::string_view kName = "soft_cap_grad";
  enum In { kDy, kX };
  static constexpr std::array kInputs = {
      Operand{"dy"},  //
      Operand{"x"},   //
  };
  enum Out { kDx };
  static constexpr std::array kOutputs = {
      Operand{"dx"},  // dy * (1 - tanh(x / cap)^2)
  };
  double cap = 1;
  template <class V>
  void attributes(V& v) const {
    v("cap", cap);
  }
};

struct Cast {
  static constexpr std::string_view kName = "cast";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  //
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // x in `dtype`
  };
  DType dtype = DType::kF32;
  template <class V>
  void attributes(V& v) const {
    v("dtype", dtype);
  }
};

Status infer(const Add& op, Inference& io);
Cost cost(const Add& op, const OpShapes& shapes);
void adjoint(const Add& op, Adjoint& a);
void partition(const Add& op, Partition& p);
Status infer(const Scale& op, Inference& io);
Cost cost(const Scale& op, const OpShapes& shapes);
void adjoint(const Scale& op, Adjoint& a);
void partition(const Scale& op, Partition& p);
Status infer(const SoftCap& op, Inference& io);
Cost cost(const SoftCap& op, const OpShapes& shapes);
void adjoint(const SoftCap& op, Adjoint& a);
void partition(const SoftCap& op, Partition& p);
Status infer(const SoftCapGrad& op, Inference& io);
Cost cost(const SoftCapGrad& op, const OpShapes& shapes);
Status infer(const Cast& op, Inference& io);
Cost cost(const Cast& op, const OpShapes& shapes);
void adjoint(const Cast& op, Adjoint& a);
void partition(const Cast& op, Partition& p);

}  // namespace colossus
