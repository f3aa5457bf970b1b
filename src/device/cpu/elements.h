// From a View's dtype to the element types of the vector kernels: float, and uint16_t for the bits of a bf16; and its
// elements or rows shared out to threads.
#pragma once

#include <stdint.h>

#include <algorithm>

#include "base/thread_pool.h"
#include "tensor/view.h"

namespace colossus {

// Calls f.operator()<T>() with the element type of `dtype`. fp64 programs run on the reference kernels only.
template <class F>
void visit_elements(DType dtype, F&& f) {
  if (dtype == DType::kF32) return f.template operator()<float>();
  CHECK(dtype == DType::kBF16, "fast kernels take f32 and bf16; run an f64 program on the reference device");
  f.template operator()<uint16_t>();
}

// From element `first` on.
template <class T>
T* elements(const View& view, int64_t first = 0) {
  DCHECK(dtype_bytes(view.dtype) == int64_t{sizeof(T)});
  return reinterpret_cast<T*>(view.data) + first;
}

template <class T>
T* row_elements(const View& view, int64_t row) {
  return elements<T>(view, row * view.shape.row_size());
}

// Elements below which a second thread costs more than it helps.
constexpr int64_t kGrainElements = 8192;

// Calls work.operator()<T>(begin, end), T the element type of `view`, for parts of its elements side by side.
template <class Work>
void for_element_ranges(ThreadPool& pool, const View& view, int64_t grain, Work&& work) {
  visit_elements(view.dtype, [&]<class T>() {
    pool.parallel_for(view.num_elements(), grain,
                      [&](int64_t begin, int64_t end) { work.template operator()<T>(begin, end); });
  });
}

// The same for its rows.
template <class Work>
void for_row_ranges(ThreadPool& pool, const View& view, Work&& work) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, view.shape.row_size()));
  visit_elements(view.dtype, [&]<class T>() {
    pool.parallel_for(view.shape.num_rows(), grain,
                      [&](int64_t begin, int64_t end) { work.template operator()<T>(begin, end); });
  });
}

}  // namespace colossus
