// Tensors that are stored in fewer bits than programs have them: parameters of imported models.
#pragma once

#include "checkpoint/checkpoint.h"
#include "tensor/stored_bytes.h"

namespace colossus {

// Whether every value of the type is an fp32.
constexpr bool widens_to_f32(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// Checkpoint::read of an entry that widens; offset and bytes are those of the piece in fp32.
Status read_widened(const Checkpoint& checkpoint, const Checkpoint::Entry& entry, const Piece& piece,
                    FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part);

// Bytes of such a type as those of fp32; whole numbers are read.
StoredBytes widened(DType dtype, StoredBytes bytes);

}  // namespace colossus
