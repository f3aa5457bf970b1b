#include "ops/matmul/matmul_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

// Columns are taken in strips that stay in registers while the rows pass.
template <class T>
void add_rows(const T* x, int64_t ld, int64_t rows, int64_t columns, float* sums) {
  constexpr int kVectors = 8;
  int64_t j = 0;
  for (; j + kVectors * kLanes <= columns; j += kVectors * kLanes) {
    F32 sum[kVectors];
    for (int v = 0; v < kVectors; ++v) sum[v] = F32::load(sums + j + v * kLanes);
    for (int64_t row = 0; row < rows; ++row)
      for (int v = 0; v < kVectors; ++v) sum[v] = sum[v] + F32::load(x + row * ld + j + v * kLanes);
    for (int v = 0; v < kVectors; ++v) sum[v].store(sums + j + v * kLanes);
  }
  for (; j < columns; j += kLanes) {
    const int n = static_cast<int>(columns - j < kLanes ? columns - j : kLanes);
    F32 sum = F32::load_first(sums + j, n);
    for (int64_t row = 0; row < rows; ++row) sum = sum + F32::load_first(x + row * ld + j, n);
    sum.store_first(sums + j, n);
  }
}

template <class T>
void add_bias(const T* x, const float* bias, int64_t columns, T* y) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int n = static_cast<int>(columns - j < kLanes ? columns - j : kLanes);
    (F32::load_first(x + j, n) + F32::load_first(bias + j, n)).store_first(y + j, n);
  }
}

}  // namespace

template <>
const BiasKernels& bias_kernels<Isa>() {
  static constexpr BiasKernels kernels = {add_rows<float>, add_rows<uint16_t>, add_bias<float>, add_bias<uint16_t>};
  return kernels;
}

}  // namespace colossus
