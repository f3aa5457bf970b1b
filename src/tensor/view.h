// A typed window onto memory that someone else owns. Dense, row-major.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace colossus {

template <class T>
extern const DType dtype_of;  // only for the types below
template <>
inline constexpr DType dtype_of<float> = DType::kF32;
template <>
inline constexpr DType dtype_of<double> = DType::kF64;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::kBF16;
template <>
inline constexpr DType dtype_of<Float16> = DType::kF16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::kI32;
template <>
inline constexpr DType dtype_of<int64_t> = DType::kI64;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::kU8;

struct View {
  std::byte* data = nullptr;
  Shape shape;
  DType dtype = DType::kF32;

  explicit operator bool() const { return data != nullptr; }
  int64_t num_elements() const { return shape.num_elements(); }
  int64_t num_bytes() const { return shape.num_elements() * dtype_bytes(dtype); }
  // The elements as T; asking for the wrong type is our mistake.
  template <class T>
  T* as() const {
    DCHECK(dtype == dtype_of<T>);
    return reinterpret_cast<T*>(data);
  }
  // One element of a float or integer tensor as a double, rounding on the way in. Slow: for reference kernels and
  // tests.
  double get(int64_t i) const;
  void set(int64_t i, double value) const;
};

}  // namespace colossus
