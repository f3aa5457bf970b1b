// What kernels share that go over rows or arrays: packs of 16 bytes, sums over a warp or a block, launch shapes.
#pragma once

#include "base/check.h"
#include "device/cuda/kernel_language.h"

namespace colossus::gpu {

// N elements that are read or written at once; with N > 1 at multiples of 16 bytes.
template <class T, int kSize>
struct alignas(sizeof(T) * kSize) Pack {
  T elements[kSize];
};
template <class T>
inline constexpr int kPackSize = static_cast<int>(16 / sizeof(T));

// The elements as fp32.
template <int kSize, class T>
__device__ __forceinline__ void load_floats(const T* from, float (&to)[kSize]) {
  const auto pack = *reinterpret_cast<const Pack<T, kSize>*>(from);
  for (int i = 0; i < kSize; ++i) to[i] = float_of(pack.elements[i]);
}
// In one store, to global memory. Where addresses are computed from other data, nvcc splits the plain assignment (seen
// in PTX: eight stores of 2 bytes).
template <class T, int kSize>
__device__ __forceinline__ void store_pack(const Pack<T, kSize>& pack, T* to) {
  if constexpr (sizeof(pack) == 16) {
    unsigned words[4];
    memcpy(words, &pack, 16);
    store_global_16(to, words);
  } else {
    *reinterpret_cast<Pack<T, kSize>*>(to) = pack;
  }
}
// To global memory, rounded.
template <int kSize, class T>
__device__ __forceinline__ void store_floats(const float (&from)[kSize], T* to) {
  Pack<T, kSize> pack;
  for (int i = 0; i < kSize; ++i) pack.elements[i] = rounded<T>(from[i]);
  store_pack(pack, to);
}
// fp32 parameters beside kSize elements of another type: as many packs as it takes.
template <int kSize>
__device__ __forceinline__ void load_parameters(const float* from, float (&to)[kSize]) {
  constexpr int kAtOnce = kSize < 4 ? kSize : 4;
  for (int i = 0; i < kSize; i += kAtOnce) {
    const auto pack = *reinterpret_cast<const Pack<float, kAtOnce>*>(from + i);
    for (int j = 0; j < kAtOnce; ++j) to[i + j] = pack.elements[j];
  }
}

template <int kSize>
__device__ __forceinline__ void store_parameters(const float (&from)[kSize], float* to) {
  constexpr int kAtOnce = kSize < 4 ? kSize : 4;
  for (int i = 0; i < kSize; i += kAtOnce) {
    Pack<float, kAtOnce> pack;
    for (int j = 0; j < kAtOnce; ++j) pack.elements[j] = from[i + j];
    store_pack(pack, to + i);
  }
}

// The same sum in all lanes; its order is fixed.
template <class T>
__device__ __forceinline__ T warp_sum(T x) {
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  for (int bits = 16; bits > 0; bits /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, bits));
  return x;
}
// Of the lanes up to this one.
__device__ __forceinline__ int warp_prefix_sum(int x) {
  for (unsigned delta = 1; delta < 32; delta *= 2) {
    const int before = __shfl_up_sync(kAllLanes, x, delta);
    if (lane() >= static_cast<int>(delta)) x += before;
  }
  return x;
}

// The same in all threads of a one-dimensional block; `scratch` is 32 Ts of shared memory. Threads may use scratch
// anew right away.
template <class T>
__device__ __forceinline__ T block_sum(T x, T* scratch) {
  x = warp_sum(x);
  const int warp = static_cast<int>(threadIdx.x) / 32, num_warps = static_cast<int>(blockDim.x) / 32;
  if (lane() == 0) scratch[warp] = x;
  __syncthreads();
  x = warp_sum(lane() < num_warps ? scratch[lane()] : T{});
  __syncthreads();
  return x;
}
__device__ __forceinline__ float block_max(float x, float* scratch) {
  x = warp_max(x);
  const int warp = static_cast<int>(threadIdx.x) / 32, num_warps = static_cast<int>(blockDim.x) / 32;
  if (lane() == 0) scratch[warp] = x;
  __syncthreads();
  x = warp_max(lane() < num_warps ? scratch[lane()] : scratch[0]);
  __syncthreads();
  return x;
}

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The threads of a block for rows of `width` elements that are taken `at_once` by each thread.
inline unsigned threads_for_row(int64_t width, int64_t at_once) {
  const int64_t wanted = divide_up(divide_up(width, at_once), 32) * 32;
  return static_cast<unsigned>(wanted < 32 ? 32 : wanted > 512 ? 512 : wanted);
}

// Names a type and how many elements of it to take at once.
template <class T, int kSize>
struct Elements {};

// Calls f(Elements<T, kSize>) with the type of `dtype` (f32 or bf16) and packs of 16 bytes where rows of `width`
// elements begin at multiples of that, else single elements.
template <class F>
void with_elements(DType dtype, int64_t width, F&& f) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "fp64 programs run on the CPU's reference kernels");
  if (dtype == DType::kBF16)
    width % kPackSize<BFloat16> == 0 ? f(Elements<BFloat16, kPackSize<BFloat16>>{}) : f(Elements<BFloat16, 1>{});
  else
    width % kPackSize<float> == 0 ? f(Elements<float, kPackSize<float>>{}) : f(Elements<float, 1>{});
}

// A one-dimensional launch of kArrayThreads threads each, for `num_items` items of work.
inline constexpr unsigned kArrayThreads = 256;
inline Launch array_launch(Stream stream, int64_t num_items) {
  const int64_t blocks = divide_up(num_items, kArrayThreads);
  return {.stream = stream, .grid = {static_cast<unsigned>(blocks)}, .block = {kArrayThreads}};
}
__device__ __forceinline__ int64_t array_index() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// Sums over rows in two steps: a kernel of the operation writes the sums of blocks of kColumnSumRows rows, (blocks, C)
// in its workspace; add_column_sums then adds the blocks, in order, into `into` (C).
inline constexpr int64_t kColumnSumRows = 128;
inline int64_t column_sums_bytes(int64_t rows, int64_t width) { return divide_up(rows, kColumnSumRows) * width * 4; }
// A thread for each column (array_index()) of each block of rows (blockIdx.y).
inline Launch column_sums_launch(Stream stream, int64_t rows, int64_t width) {
  Launch launch = array_launch(stream, width);
  launch.grid.y = static_cast<unsigned>(divide_up(rows, kColumnSumRows));
  return launch;
}
void add_column_sums(Stream stream, const float* block_sums, int64_t rows, int64_t width, float* into);

}  // namespace colossus::gpu
