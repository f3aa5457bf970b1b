#include "tensor/dtype.h"

#include <array>

namespace colossus {
namespace {
constexpr std::array kDTypes = {DType::kF32, DType::kBF16, DType::kF64, DType::kI32,
                                DType::kI64, DType::kU8,   DType::kF16};
}

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kBF16: return "bf16";
    case DType::kF64: return "f64";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kU8: return "u8";
    case DType::kF16: return "f16";
  }
  return "?";
}

float to_float(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1F, fraction = value.bits & 0x3FF;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000 | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24F;  // exact
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

Float16 to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const auto signed_half = [sign](uint32_t half) { return Float16{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7F800000) {
    const uint32_t payload = (magnitude >> 13) & 0x3FF;
    return signed_half(0x7C00 | (payload != 0 ? payload : 0x200));  // keep NaN a NaN
  }
  if (magnitude >= 0x477FF000) return signed_half(0x7C00);  // beyond the largest half, rounded
  const auto round = [](uint32_t kept, uint32_t rest, uint32_t half) {
    return kept + (rest > half || (rest == half && (kept & 1) != 0) ? 1 : 0);
  };
  if (magnitude >= 0x38800000) {  // a normal half; a carry out of the fraction is the next exponent
    return signed_half(round((magnitude - 0x38000000) >> 13, magnitude & 0x1FFF, 0x1000));
  }
  if (magnitude < 0x33000000) return signed_half(0);  // below half of the smallest subnormal
  const uint32_t fraction = (magnitude & 0x7FFFFF) | 0x800000, shift = 126 - (magnitude >> 23);
  return signed_half(round(fraction >> shift, fraction & ((1U << shift) - 1), 1U << (shift - 1)));
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (DType dtype : kDTypes)
    if (dtype_name(dtype) == name) return dtype;
  return std::nullopt;
}

}  // namespace colossus
