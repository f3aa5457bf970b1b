// The columns in which a rank's tokens stand: positions[b, t] = first + t.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Positions {
  static constexpr std::string_view kName = "positions";
  static constexpr std::array<Operand, 0> kInputs = {};
  enum Out { kPositions };
  static constexpr std::array kOutputs = {
      Operand{"positions"},  // (B, T) i32
  };
  int64_t batch = 0;   // B
  int64_t tokens = 0;  // T
  int64_t first = 0;
  template <class V>
  void attributes(V& v) const {
    v("batch", batch);
    v("tokens", tokens);
    v("first", first);
  }
};

Status infer(const Positions& op, Inference& io);
Cost cost(const Positions& op, const OpShapes& shapes);

}  // namespace colossus
