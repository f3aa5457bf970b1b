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

}  // namespace

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
