// Vector loops over the rows of one token. A row is float or, as uint16_t, bf16.
#pragma once

#include <stdint.h>

#include "device/cpu/simd.h"

namespace colossus {

template <class T>
struct TokenRows {
  const T* rows;            // (S, width)
  const int32_t* slot_row;  // (num_slots): the rows of this token
  int64_t num_slots;
  int64_t width;
};

template <class T>
struct TokenRowKernels {
  // y = sum over slots, in order, of gate * row, plus addend; null gates are ones, a null addend zeros.
  void (*combine)(const TokenRows<T>& token, const float* gates, const T* addend, T* y);
  // drows[slot_row] = gate * dy and dgates = dy . row, for each slot.
  void (*combine_grad)(const TokenRows<T>& token, const float* gates, const T* dy, T* drows, float* dgates);
};

struct TokenDispatchKernels {
  TokenRowKernels<float> f32;
  TokenRowKernels<uint16_t> bf16;
};

template <class Isa>
const TokenDispatchKernels& token_dispatch_kernels();
template <>
const TokenDispatchKernels& token_dispatch_kernels<Avx2>();
template <>
const TokenDispatchKernels& token_dispatch_kernels<Avx512>();

}  // namespace colossus
