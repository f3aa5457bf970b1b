// One token of each sequence: y[b] = x[b, index[b]].
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct SelectToken {
  static constexpr std::string_view kName = "select_token";
  enum In { kX, kIndex };
  static constexpr std::array kInputs = {
      Operand{"x"},      // (B, T, C)
      Operand{"index"},  // (B) i32 in [0, T); token 0 for one that is not
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // (B, 1, C)
  };
  template <class V>
  void attributes(V&) const {}
};

Status infer(const SelectToken& op, Inference& io);
Cost cost(const SelectToken& op, const OpShapes& shapes);

}  // namespace colossus
