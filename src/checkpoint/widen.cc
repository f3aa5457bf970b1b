#include "checkpoint/widen.h"

#include <cstring>
#include <utility>

namespace colossus {
namespace {

template <class Half>
void widen(std::span<const std::byte> halves, std::byte* floats) {
  for (size_t i = 0; i < halves.size() / sizeof(Half); ++i) {
    Half half;
    std::memcpy(&half, halves.data() + i * sizeof(Half), sizeof(Half));
    const float number = to_float(half);
    std::memcpy(floats + i * sizeof(float), &number, sizeof(float));
  }
}

void widen(DType dtype, std::span<const std::byte> halves, std::byte* floats) {
  if (dtype == DType::kBF16)
    widen<BFloat16>(halves, floats);
  else
    widen<Float16>(halves, floats);
}

// `bytes` from `offset` on of a tensor of that type.
void hand_over(DType dtype, int64_t offset, std::span<const std::byte> bytes, std::vector<std::byte>& floats,
               FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  if (dtype == DType::kF32) return part(offset, bytes);
  floats.resize(bytes.size() * 2);
  widen(dtype, bytes, floats.data());
  part(offset * 2, floats);
}

}  // namespace

Status read_widened(const Checkpoint& checkpoint, const Checkpoint::Entry& entry, const Piece& piece,
                    FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  CHECK(widens_to_f32(entry.dtype));
  std::vector<std::byte> floats;
  return checkpoint.read(entry, piece, [&](int64_t offset, std::span<const std::byte> bytes) {
    hand_over(entry.dtype, offset, bytes, floats, part);
  });
}

StoredBytes widened(DType dtype, StoredBytes bytes) {
  CHECK(widens_to_f32(dtype));
  if (dtype == DType::kF32) return bytes;
  return {.read =
              [dtype, read = std::move(bytes.read)](int64_t offset, std::span<std::byte> into) {
                CHECK(offset % 4 == 0 && into.size() % 4 == 0, "whole numbers");
                std::vector<std::byte> halves(into.size() / 2);
                RETURN_IF_ERROR(read(offset / 2, halves));
                widen(dtype, halves, into.data());
                return ok_status();
              },
          .chunk_bytes = bytes.chunk_bytes * 2};
}

}  // namespace colossus
