// From a View's dtype to the element types of the vector kernels: float, and uint16_t for the bits of a bf16.
#pragma once

#include <stdint.h>

#include "tensor/view.h"

namespace colossus {

// Calls f.operator()<T>() with the element type of `dtype`. fp64 programs run on the reference kernels only.
template <class F>
void visit_elements(DType dtype, F&& f) {
  if (dtype == DType::kF32) return f.template operator()<float>();
  CHECK(dtype == DType::kBF16, "fast kernels take f32 and bf16; run an f64 program on the reference device");
  f.template operator()<uint16_t>();
}

template <class T>
T* elements(const View& view) {
  DCHECK(dtype_bytes(view.dtype) == int64_t{sizeof(T)});
  return reinterpret_cast<T*>(view.data);
}

}  // namespace colossus
