#include "device/cuda/device_kernels.h"

#include "device/cuda/row_kernels.h"

namespace colossus {
namespace {

// Both at multiples of 16 bytes; the rest of an array, shorter than a pack, is one thread's.
template <int kSize>
__global__ void round_kernel(const float* from, BFloat16* to, int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  if (at + kSize <= num_elements) {
    float values[kSize];
    gpu::load_parameters(from + at, values);
    gpu::store_floats(values, to + at);
  } else {
    for (int64_t i = at; i < num_elements; ++i) to[i] = gpu::rounded<BFloat16>(from[i]);
  }
}

__global__ void widen_kernel(const BFloat16* from, float* to, int64_t num_elements) {
  const int64_t at = gpu::array_index();
  if (at < num_elements) to[at] = gpu::float_of(from[at]);
}

template <int kSize>
__global__ void add_kernel(float* into, const float* from, int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  if (at + kSize <= num_elements) {
    float a[kSize], b[kSize];
    gpu::load_floats(into + at, a);
    gpu::load_floats(from + at, b);
    for (int i = 0; i < kSize; ++i) a[i] += b[i];
    gpu::store_floats(a, into + at);
  } else {
    for (int64_t i = at; i < num_elements; ++i) into[i] += from[i];
  }
}

__global__ void add_blocks_kernel(const float* block_sums, int64_t num_blocks, int64_t width, float* into) {
  const int64_t column = gpu::array_index();
  if (column >= width) return;
  float sum = 0;
  for (int64_t block = 0; block < num_blocks; ++block) sum += block_sums[block * width + column];
  into[column] += sum;
}

template <class Sum, class T>
__device__ Sum widened(T value) {
  if constexpr (sizeof(T) == 2)
    return gpu::float_of(value);
  else
    return value;
}

template <class T, class Sum>
__global__ void add_terms_kernel(const T* terms, int64_t num_terms, int64_t count, T* into) {
  const int64_t at = gpu::array_index();
  if (at >= count) return;
  Sum sum = widened<Sum>(terms[at]);
  for (int64_t term = 1; term < num_terms; ++term) sum += widened<Sum>(terms[term * count + at]);
  if constexpr (sizeof(T) == 2)
    into[at] = gpu::rounded<T>(sum);
  else
    into[at] = sum;
}

// The same, 16 bytes at once: terms and sum lie at multiples of them.
template <class T>
__global__ void add_packs_kernel(const T* terms, int64_t num_terms, int64_t count, T* into) {
  constexpr int kSize = gpu::kPackSize<T>;
  const int64_t at = gpu::array_index() * kSize;
  if (at >= count) return;
  float sum[kSize], term[kSize];
  gpu::load_floats(terms + at, sum);
  for (int64_t next = 1; next < num_terms; ++next) {
    gpu::load_floats(terms + next * count + at, term);
    for (int i = 0; i < kSize; ++i) sum[i] += term[i];
  }
  gpu::store_floats(sum, into + at);
}

template <class T, class Sum>
void add_terms(gpu::Stream stream, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum) {
  const auto* from = reinterpret_cast<const T*>(terms);
  auto* to = reinterpret_cast<T*>(sum);
  if constexpr (std::is_same_v<Sum, float>) {
    if (count % gpu::kPackSize<T> == 0 && reinterpret_cast<uintptr_t>(sum) % 16 == 0) {
      gpu::launch(gpu::array_launch(stream, count / gpu::kPackSize<T>), add_packs_kernel<T>, from, num_terms, count,
                  to);
      return;
    }
  }
  gpu::launch(gpu::array_launch(stream, count), add_terms_kernel<T, Sum>, from, num_terms, count, to);
}

__global__ void write_number_kernel(int64_t* pinned, int64_t number) {
  if (threadIdx.x == 0) *static_cast<volatile int64_t*>(pinned) = number;
}

__global__ void write_time_kernel(int64_t* pinned) {
  if (threadIdx.x == 0) *static_cast<volatile int64_t*>(pinned) = gpu::nanoseconds();
}

gpu::Launch one_warp(gpu::Stream stream) { return {.stream = stream, .grid = {}, .block = {.x = 32}}; }

}  // namespace

void add_in_order(gpu::Stream stream, DType dtype, const std::byte* terms, int64_t num_terms, int64_t count,
                  std::byte* sum) {
  switch (dtype) {
    case DType::kF32: return add_terms<float, float>(stream, terms, num_terms, count, sum);
    case DType::kBF16: return add_terms<BFloat16, float>(stream, terms, num_terms, count, sum);
    case DType::kF64: return add_terms<double, double>(stream, terms, num_terms, count, sum);
    case DType::kI64: return add_terms<int64_t, int64_t>(stream, terms, num_terms, count, sum);
    default: CHECK(false, "sums are of f32, f64, bf16 or i64");
  }
}

void write_number(gpu::Stream stream, int64_t* pinned, int64_t number) {
  gpu::launch(one_warp(stream), write_number_kernel, pinned, number);
}

void write_time(gpu::Stream stream, int64_t* pinned) { gpu::launch(one_warp(stream), write_time_kernel, pinned); }

void gpu::add_column_sums(Stream stream, const float* block_sums, int64_t rows, int64_t width, float* into) {
  launch(array_launch(stream, width), add_blocks_kernel, block_sums, divide_up(rows, kColumnSumRows), width, into);
}

void round_to_bf16(gpu::Stream stream, const float* from, std::byte* to, int64_t num_elements) {
  gpu::launch(gpu::array_launch(stream, gpu::divide_up(num_elements, 8)), round_kernel<8>, from,
              reinterpret_cast<BFloat16*>(to), num_elements);
}

void widen_bf16(gpu::Stream stream, const std::byte* from, float* to, int64_t num_elements) {
  gpu::launch(gpu::array_launch(stream, num_elements), widen_kernel, reinterpret_cast<const BFloat16*>(from), to,
              num_elements);
}

void add_floats(gpu::Stream stream, float* into, const float* from, int64_t num_elements) {
  gpu::launch(gpu::array_launch(stream, gpu::divide_up(num_elements, 4)), add_kernel<4>, into, from, num_elements);
}

}  // namespace colossus
