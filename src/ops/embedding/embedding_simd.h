// Rows of embedding tables (fp32) for activations of T (float, or uint16_t for bf16).
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct EmbeddingKernels {
  // y = scale * token_row + position_row (or null)
  void (*lookup)(const float* token_row, float scale, const float* position_row, T* y, int64_t width);
  // row += scale * dy
  void (*accumulate)(const T* dy, float scale, float* row, int64_t width);
};

template <class Isa, class T>
const EmbeddingKernels<T>& embedding_kernels();

}  // namespace colossus
