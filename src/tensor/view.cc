#include "tensor/view.h"

namespace colossus {

double View::get(int64_t i) const {
  DCHECK(i >= 0 && i < num_elements());
  switch (dtype) {
    case DType::kF32: return as<float>()[i];
    case DType::kBF16: return to_float(as<BFloat16>()[i]);
    case DType::kF64: return as<double>()[i];
    case DType::kI32: return as<int32_t>()[i];
    case DType::kI64: return static_cast<double>(as<int64_t>()[i]);
    case DType::kU8: return as<uint8_t>()[i];
    case DType::kF16: return to_float(as<Float16>()[i]);
  }
  return 0;
}

void View::set(int64_t i, double value) const {
  DCHECK(i >= 0 && i < num_elements());
  switch (dtype) {
    case DType::kF32: as<float>()[i] = static_cast<float>(value); return;
    case DType::kBF16: as<BFloat16>()[i] = to_bf16(static_cast<float>(value)); return;
    case DType::kF64: as<double>()[i] = value; return;
    case DType::kI32: as<int32_t>()[i] = static_cast<int32_t>(value); return;
    case DType::kI64: as<int64_t>()[i] = static_cast<int64_t>(value); return;
    case DType::kU8: as<uint8_t>()[i] = static_cast<uint8_t>(value); return;
    case DType::kF16: as<Float16>()[i] = to_f16(static_cast<float>(value)); return;
  }
}

}  // namespace colossus
