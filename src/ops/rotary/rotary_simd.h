// Rotary embedding of one token at a time: its cosines and sines, then all of its heads.
#pragma once

#include <stdint.h>

namespace colossus {

// Positions of larger magnitude lose the phase in the vector sine: the caller computes those another way.
inline constexpr int64_t kMostRotaryPosition = 1 << 20;

template <class T>
struct RotaryKernels {
  // cosines[i] and sines[i] of position * frequencies[i] (rounded to fp32), absolute error 2e-7;
  // frequencies at most 1, |position| <= kMostRotaryPosition.
  void (*angles)(float position, const float* frequencies, int64_t count, float* cosines, float* sines);
  // Turns num_heads heads of 2 * half elements.
  void (*turn)(const T* x, const float* cosines, const float* sines, int64_t num_heads, int64_t half, T* y);
};

template <class Isa, class T>
const RotaryKernels<T>& rotary_kernels();

}  // namespace colossus
