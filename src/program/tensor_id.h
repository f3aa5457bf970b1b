// Names a tensor within one Program.
#pragma once

#include <cstdint>

namespace colossus {

struct TensorId {
  int32_t index = -1;  // -1: no tensor, an optional operand left out

  explicit operator bool() const { return index >= 0; }
  bool operator==(const TensorId&) const = default;
};

}  // namespace colossus
