// Rows of the layer norm for elements of T (float, or uint16_t for bf16). Each row is read once; further passes over it
// find it in the nearest cache.
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct LayerNormKernels {
  struct Rows {
    const T* x;          // (rows, width)
    const float* scale;  // (width)
    const float* bias;   // (width) or null
    T* y;                // (rows, width)
    float *mean, *rstd;  // (rows)
    int64_t rows, width;
    float eps;
  };
  struct GradRows {
    const T* dy;               // (rows, width)
    const T* x;                // (rows, width)
    const float* scale;        // (width)
    const float *mean, *rstd;  // (rows)
    const T* addend;           // (rows, width) or null
    T* dx;                     // (rows, width)
    // (width) each, overwritten with the sums over these rows; both or neither
    float *dscale, *dbias;
    int64_t rows, width;
  };
  void (*forward)(const Rows& a);
  void (*grad)(const GradRows& a);
};

template <class Isa, class T>
const LayerNormKernels<T>& layer_norm_kernels();

}  // namespace colossus
