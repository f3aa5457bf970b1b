// Element types. Floats round to nearest even when narrowed.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace colossus {

// kF16 is only stored: no operation takes it (checkpoints of imported models, see checkpoint/widen.h).
enum class DType : uint8_t { kF32, kBF16, kF64, kI32, kI64, kU8, kF16 };

constexpr int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kBF16:
    case DType::kF16: return 2;
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kU8: return 1;
  }
  return 0;
}
constexpr bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF64; }

std::string_view dtype_name(DType dtype);  // "f32", "bf16", ...
std::optional<DType> dtype_from_name(std::string_view name);

// IEEE 754 binary16. Every value, subnormals, infinities and NaNs with their payload, has its own float, and comes back
// from it as it was.
struct Float16 {
  uint16_t bits = 0;
};
float to_float(Float16 value);
Float16 to_f16(float value);

// bfloat16: the upper half of an fp32.
struct BFloat16 {
  uint16_t bits = 0;
};

inline float to_float(BFloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

inline BFloat16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return {static_cast<uint16_t>((bits >> 16) | 0x40)};  // keep NaN a NaN
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}

}  // namespace colossus
