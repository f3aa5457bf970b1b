#include "checkpoint/widen.h"

#include <cstring>

namespace colossus {
namespace {

template <class Half>
void widen(std::span<const std::byte> halves, std::vector<float>& floats) {
  floats.resize(halves.size() / sizeof(Half));
  for (size_t i = 0; i < floats.size(); ++i) {
    Half half;
    std::memcpy(&half, halves.data() + i * sizeof(Half), sizeof(Half));
    floats[i] = to_float(half);
  }
}

}  // namespace

Status read_widened(const Checkpoint& checkpoint, const Checkpoint::Entry& entry, const Piece& piece,
                    FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  CHECK(widens_to_f32(entry.dtype));
  if (entry.dtype == DType::kF32) return checkpoint.read(entry, piece, part);
  std::vector<float> floats;
  return checkpoint.read(entry, piece, [&](int64_t offset, std::span<const std::byte> bytes) {
    if (entry.dtype == DType::kBF16)
      widen<BFloat16>(bytes, floats);
    else
      widen<Float16>(bytes, floats);
    part(offset * 2, std::as_bytes(std::span(floats)));
  });
}

}  // namespace colossus
