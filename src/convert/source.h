// Tensors to read, wherever they lie: what all formats are seen as.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace colossus {

struct SourceTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  // Of the tensor's bytes, row by row, those from `offset` on.
  std::function<Status(int64_t offset, std::span<std::byte> into)> read;
  std::string place;  // the file, for messages

  int64_t num_bytes() const { return shape.num_elements() * dtype_bytes(dtype); }
};

// The tensors of one model, by name.
using SourceTensors = std::map<std::string, SourceTensor>;

}  // namespace colossus
