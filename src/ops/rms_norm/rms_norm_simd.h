// Rows of the RMS norm for elements of T (float, or uint16_t for bf16). Each row is read once; the second pass over it
// finds it in the nearest cache.
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct RmsNormKernels {
  struct Rows {
    const T* x;          // (rows, width)
    const float* scale;  // (width)
    const T* addend;     // (rows, width) or null
    T* y;                // (rows, width)
    float* rstd;         // (rows)
    int64_t rows, width;
    float eps;
  };
  struct GradRows {
    const T* dy;         // (rows, width)
    const T* x;          // (rows, width)
    const float* scale;  // (width)
    const float* rstd;   // (rows)
    const T* addend;     // (rows, width) or null
    T* dx;               // (rows, width)
    float* dscale;       // (width), overwritten with the sum over these rows; or null
    int64_t rows, width;
  };
  void (*forward)(const Rows& a);
  void (*grad)(const GradRows& a);
};

template <class Isa, class T>
const RmsNormKernels<T>& rms_norm_kernels();

}  // namespace colossus
