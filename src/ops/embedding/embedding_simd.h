// Rows of embedding tables for activations of T (float, or uint16_t for bf16). Tables are fp32, or where they are only
// read bf16.
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct EmbeddingKernels {
  // y = scale * token_row + position_row (or null); one each for [token_row is bf16][position_row is bf16]
  void (*lookup[2][2])(const void* token_row, float scale, const void* position_row, T* y, int64_t width);
  // row += scale * dy
  void (*accumulate)(const T* dy, float scale, float* row, int64_t width);
};

template <class Isa, class T>
const EmbeddingKernels<T>& embedding_kernels();

}  // namespace colossus
