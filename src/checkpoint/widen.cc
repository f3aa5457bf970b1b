#include "checkpoint/widen.h"

#include <algorithm>
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

// `bytes` from `offset` on of a tensor of that type.
void hand_over(DType dtype, int64_t offset, std::span<const std::byte> bytes, std::vector<float>& floats,
               FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  if (dtype == DType::kF32) return part(offset, bytes);
  if (dtype == DType::kBF16)
    widen<BFloat16>(bytes, floats);
  else
    widen<Float16>(bytes, floats);
  part(offset * 2, std::as_bytes(std::span(floats)));
}

}  // namespace

Status read_widened(const Checkpoint& checkpoint, const Checkpoint::Entry& entry, const Piece& piece,
                    FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  CHECK(widens_to_f32(entry.dtype));
  std::vector<float> floats;
  return checkpoint.read(entry, piece, [&](int64_t offset, std::span<const std::byte> bytes) {
    hand_over(entry.dtype, offset, bytes, floats, part);
  });
}

Status read_widened(const CheckpointTensor& tensor,
                    FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) {
  CHECK(widens_to_f32(tensor.dtype));
  std::vector<float> floats;
  std::vector<std::byte> block;
  for (int64_t at = 0; at < tensor.num_bytes(); at += kCheckpointBlockBytes) {
    block.resize(static_cast<size_t>(std::min(kCheckpointBlockBytes, tensor.num_bytes() - at)));
    RETURN_IF_ERROR(tensor.read(at, block));
    hand_over(tensor.dtype, at, block, floats, part);
  }
  return ok_status();
}

}  // namespace colossus
