// The dropout mask and its product, many philox blocks at a time.
#pragma once

#include <stdint.h>

namespace colossus {

template <class T>
struct DropoutKernels {
  struct Span {
    const T* x;
    T* y;
    int64_t count;
    uint64_t first;       // global index of element 0
    uint32_t key[2];      // philox: the seed
    uint32_t counter[2];  // philox: the counter's words 2 and 3
    uint32_t threshold;
    float scale;
  };
  void (*apply)(const Span& a);
};

template <class Isa, class T>
const DropoutKernels<T>& dropout_kernels();

}  // namespace colossus
