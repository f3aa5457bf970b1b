// Kernels that compute each element of an array from the same elements of others: one read and one write of each, in
// packs of 16 bytes, one for each thread. F is a struct of its constants with
//   __device__ float operator()(float x...) const
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus::gpu {

template <class To, class F, class... From>
__global__ void map_kernel(F f, To* to, int64_t num_elements, const From*... from) {
  constexpr int kSize = kPackSize<To>;
  const int64_t at = array_index() * kSize;
  if (at >= num_elements) return;
  const int64_t last = at + kSize < num_elements ? at + kSize : num_elements;
  if (at + kSize == last) {
    float results[kSize];
    const auto compute = [&](const Pack<From, kSize>&... packs) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) results[i] = f(float_of(packs.elements[i])...);
    };
    compute(*reinterpret_cast<const Pack<From, kSize>*>(from + at)...);
    store_floats(results, to + at);
  } else {
    for (int64_t i = at; i < last; ++i) to[i] = rounded<To>(f(float_of(from[i])...));
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
