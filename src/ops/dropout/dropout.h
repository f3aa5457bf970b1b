// y = x / (1 - rate) where kept, else 0. Element i of the global batch is kept by random bits of (seed, dropout, step, i):
// the mask does not depend on the microbatch, rank or thread that computes it, and the adjoint draws it again.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Dropout {
  static constexpr std::string_view kName = "dropout";
  enum In { kX, kRng };
  static constexpr std::array kInputs = {
      Operand{"x"},                                       // (B, T, C)
      Operand{"rng"},                                     // (3) i64: seed, step, first sample of this microbatch in the global batch
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},                                       // like x
  };
  double rate = 0;                          // in [0, 1)
  int64_t stream = 0;                       // a number of its own for each dropout of a program
  template <class V>
  void attributes(V& v) const {
    v("rate", rate); v("stream", stream);
  }
};

Status infer(const Dropout& op, Inference& io);
Cost cost(const Dropout& op, const OpShapes& shapes);
void adjoint(const Dropout& op, Adjoint& a);

}  // namespace colossus
