// Vector loops of the elementwise operations over arrays of T (float, or uint16_t for bf16).
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct ElementwiseKernels {
  void (*add)(const T* a, const T* b, T* y, int64_t count);
  void (*scale)(const T* x, float factor, T* y, int64_t count);
  void (*soft_cap)(const T* x, float cap, T* y, int64_t count);
  void (*soft_cap_grad)(const T* dy, const T* x, float cap, T* dx, int64_t count);
  void (*to_f32)(const T* x, float* y, int64_t count);
  void (*to_bf16)(const T* x, uint16_t* y, int64_t count);
};

template <class Isa, class T>
const ElementwiseKernels<T>& elementwise_kernels();

}  // namespace colossus
