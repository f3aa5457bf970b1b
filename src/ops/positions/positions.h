// The columns in which a rank's tokens stand, in one run or two: first, first + 1, ..., then second, second + 1, ...
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
  int64_t second = 0;
  int64_t num_second = 0;  // of the T
  template <class V>
  void attributes(V& v) const {
    v("batch", batch);
    v("tokens", tokens);
    v("first", first);
    v("second", second);
    v("num_second", num_second);
  }
};

// Of token t.
inline int64_t position_of(const Positions& op, int64_t t) {
  const int64_t num_first = op.tokens - op.num_second;
  return t < num_first ? op.first + t : op.second + t - num_first;
}

Status infer(const Positions& op, Inference& io);
Cost cost(const Positions& op, const OpShapes& shapes);

}  // namespace colossus
