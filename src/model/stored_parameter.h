// The parameters of a model where they are stored, for programs that do nothing but read them.
#pragma once

#include <map>
#include <string>

#include "program/op_interface.h"
#include "tensor/stored_bytes.h"

namespace colossus {

struct StoredParameter {
  TensorType type;          // as stored: f32, bf16 or f16
  bool transposed = false;  // of a matrix: (out, in), or (E, out, in), where the network has (in, out)
  StoredBytes bytes;        // keeps alive what it reads from
};
using StoredParameters = std::map<std::string, StoredParameter>;  // by name

}  // namespace colossus
