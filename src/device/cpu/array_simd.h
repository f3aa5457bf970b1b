// Elementary functions and conversions over whole arrays: what simd.h offers, callable from code compiled for every
// processor. Pointers need no alignment; input and output may be the same array, where their types agree.
#pragma once

#include <stdint.h>

namespace colossus {

struct ArrayKernels {
  void (*exp)(const float* x, float* y, int64_t count);
  void (*tanh)(const float* x, float* y, int64_t count);
  void (*sigmoid)(const float* x, float* y, int64_t count);
  void (*log)(const float* x, float* y, int64_t count);
  void (*rsqrt)(const float* x, float* y, int64_t count);
  void (*add)(const float* a, const float* b, float* sum, int64_t count);
  void (*to_bf16)(const float* x, uint16_t* y, int64_t count);
  void (*to_f32)(const uint16_t* x, float* y, int64_t count);
  // 0 and -infinity for empty arrays. The order of addition is fixed per instruction set.
  float (*sum)(const float* x, int64_t count);
  float (*max)(const float* x, int64_t count);
};

template <class Isa>
const ArrayKernels& array_kernels();

}  // namespace colossus
