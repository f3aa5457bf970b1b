// Vector loops of the activations over arrays of T (float, or uint16_t for bf16).
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct ActivationKernels {
  void (*forward)(const T* x, T* y, int64_t count);
  void (*grad)(const T* dy, const T* x, T* dx, int64_t count);
  void (*gated)(const T* gate, const T* up, T* y, int64_t count);
  void (*gated_grad)(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count);
};

inline constexpr int kNumActivationKinds = 4;

// kNumActivationKinds tables, in the order of ActivationKind (whose header is not for vector code).
template <class Isa, class T>
const ActivationKernels<T>* const& activation_kernels();

}  // namespace colossus
