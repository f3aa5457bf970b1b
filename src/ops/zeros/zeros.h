// Memory that sums are added into: zero when written.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Zeros {
  static constexpr std::string_view kName = "zeros";
  static constexpr std::array<Operand, 0> kInputs = {};
  enum Out { kZeros };
  static constexpr std::array kOutputs = {
      Operand{"zeros"},  // (N) f32
  };
  int64_t size = 0;  // N
  template <class V>
  void attributes(V& v) const {
    v("size", size);
  }
};

Status infer(const Zeros& op, Inference& io);
Cost cost(const Zeros& op, const OpShapes& shapes);

}  // namespace colossus
