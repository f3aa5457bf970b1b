// Kernels that compute each element of an array from the same elements of others: one read and one write of each, in
// packs of 16 bytes, one for each thread. F is a struct of its constants with
//   __device__ float operator()(float) const, or of two floats
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus::gpu {

template <class To, class F, class... From>
__global__ void map_kernel(F f, To* to, int64_t num_elements, const From*... from) {
  constexpr int kSize = kPackSize<To>;
  const int64_t at = array_index() * kSize;
  if (at >= num_elements) return;
  if (at + kSize <= num_elements) {
    float values[sizeof...(From)][kSize], results[kSize];
    int next = 0;
    (load_floats(from + at, values[next++]), ...);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      if constexpr (sizeof...(From) == 1)
        results[i] = f(values[0][i]);
      else
        results[i] = f(values[0][i], values[1][i]);
    }
    store_floats(results, to + at);
  } else {
    for (int64_t i = at; i < num_elements; ++i) to[i] = rounded<To>(f(float_of(from[i])...));
  }
}

// to[i] = f(from[i]...), all in the type of `to` (f32 or bf16).
template <class To, class F, class... From>
void map(Stream stream, const F& f, To* to, int64_t num_elements, const From*... from) {
  launch(array_launch(stream, divide_up(num_elements, kPackSize<To>)), map_kernel<To, F, From...>, f, to, num_elements,
         from...);
}

// Calls f with a null pointer to the type of `dtype`: f32 or bf16.
template <class F>
void with_type(DType dtype, F&& f) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "fp64 programs run on the CPU's reference kernels");
  if (dtype == DType::kBF16)
    f(static_cast<BFloat16*>(nullptr));
  else
    f(static_cast<float*>(nullptr));
}

}  // namespace colossus::gpu
