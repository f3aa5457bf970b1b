#include "device/cpu/cpu_collectives.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "device/cpu/array_simd.h"
#include "device/cpu/simd.h"

namespace colossus {
namespace {

// Blocks stay in the cache while the terms pass by.
constexpr int64_t kBlock = 1024;

template <class Sum, class T>
Sum widened(T value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return to_float(value);
  else
    return value;
}

template <class T, class Sum>
T rounded(Sum value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return to_bf16(value);
  else
    return value;
}

template <class T, class Sum>
void add_terms(const T* terms, int64_t num_terms, int64_t count, T* into) {
  [[maybe_unused]] const ArrayKernels& kernels = select_isa(array_kernels<Avx512>(), array_kernels<Avx2>());
  std::array<Sum, kBlock> sum;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    for (int64_t i = 0; i < size; ++i) sum[static_cast<size_t>(i)] = widened<Sum>(terms[begin + i]);
    for (int64_t term = 1; term < num_terms; ++term) {
      const T* added = terms + term * count + begin;
      if constexpr (std::is_same_v<T, float>)
        kernels.add(sum.data(), added, sum.data(), size);
      else
        for (int64_t i = 0; i < size; ++i) sum[static_cast<size_t>(i)] += widened<Sum>(added[i]);
    }
    for (int64_t i = 0; i < size; ++i) into[begin + i] = rounded<T>(sum[static_cast<size_t>(i)]);
  }
}

}  // namespace

void CpuCollectives::copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) {
  if (row_bytes == 0) return;  // and there may be no memory at all
  for (int64_t row = 0; row < num_rows; ++row)
    std::memcpy(to.data + row * to.step, from.data + row * from.step, static_cast<size_t>(row_bytes));
}

void CpuCollectives::write(ByteSpan to, ConstByteSpan from_host) { std::ranges::copy(from_host, to.begin()); }

void CpuCollectives::add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count,
                                  std::byte* sum) {
  const auto add = [&]<class T, class Sum>() {
    add_terms<T, Sum>(reinterpret_cast<const T*>(terms), num_terms, count, reinterpret_cast<T*>(sum));
  };
  switch (dtype) {
    case DType::kF32: return add.operator()<float, float>();
    case DType::kF64: return add.operator()<double, double>();
    case DType::kBF16: return add.operator()<BFloat16, float>();
    case DType::kI64: return add.operator()<int64_t, int64_t>();
    default: CHECK(false, "sums are of f32, f64, bf16 or i64");
  }
}

}  // namespace colossus
