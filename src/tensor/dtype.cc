#include "tensor/dtype.h"

#include <array>

namespace colossus {
namespace {
constexpr std::array kDTypes = {DType::kF32, DType::kBF16, DType::kF64, DType::kI32, DType::kI64, DType::kU8};
}

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kBF16: return "bf16";
    case DType::kF64: return "f64";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kU8: return "u8";
  }
  return "?";
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (DType dtype : kDTypes)
    if (dtype_name(dtype) == name) return dtype;
  return std::nullopt;
}

}  // namespace colossus
