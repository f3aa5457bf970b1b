// CUDA's kernel language for a C++ compiler: kernels run on emulated/block_machine.h.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#include "base/check.h"
#include "device/cuda/emulated/block_machine.h"
#include "device/cuda/launch.h"
#include "tensor/dtype.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local

namespace colossus {

using gpu::blockDim;
using gpu::blockIdx;
using gpu::gridDim;
using gpu::threadIdx;

inline void __syncthreads() { gpu::wait_for_block(); }
inline void __syncwarp() { gpu::wait_for_warp(); }

constexpr unsigned kAllLanes = 0xFFFFFFFFU;

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  CHECK(mask == kAllLanes);
  return gpu::warp_values(value)[static_cast<size_t>(lane & 31)];
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  CHECK(mask == kAllLanes);
  return gpu::warp_values(value)[static_cast<size_t>((gpu::lane() ^ bits) & 31)];
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  CHECK(mask == kAllLanes);
  const auto values = gpu::warp_values(value);
  const int from = gpu::lane() - static_cast<int>(delta);
  return from < 0 ? value : values[static_cast<size_t>(from)];
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  CHECK(mask == kAllLanes);
  const auto values = gpu::warp_values(value);
  const int from = gpu::lane() + static_cast<int>(delta);
  return from > 31 ? value : values[static_cast<size_t>(from)];
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  CHECK(mask == kAllLanes);
  const auto values = gpu::warp_values(predicate != 0);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(values[static_cast<size_t>(lane)]) << lane;
  return bits;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }

// Threads of the emulated machine run one at a time.
template <class T, class U>
T atomicAdd(T* at, U value) {
  static_assert(std::is_integral_v<T>, "sums of floats must not depend on who comes first");
  const T before = *at;
  *at = static_cast<T>(*at + static_cast<T>(value));
  return before;
}

inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
// 0 where y is infinite or nearly so.
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }

namespace gpu {

// bf16, rounded to nearest even.
inline float float_of(BFloat16 x) { return to_float(x); }
inline float float_of(float x) { return x; }
template <class T>
T rounded(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return to_bf16(x);
}

// Two floats as bf16 in one register, `low` in its lower half.
inline unsigned bf16_pair(float low, float high) {
  return static_cast<unsigned>(to_bf16(low).bits) | static_cast<unsigned>(to_bf16(high).bits) << 16;
}
// 2^x to two units in the last place; 0 where that is denormal: one instruction.
inline float quick_exp2(float x) { return x < -126.0F ? 0.0F : std::exp2(x); }
// Of a clock of this GPU.
inline int64_t nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
// a / b to two units in the last place, 0 where b is beyond 2^126.
inline float quick_divide(float a, float b) { return std::fabs(b) > 8.5e37F ? 0.0F : a / b; }

void enqueue_kernel(const Launch& launch, std::function<void()> body);

template <class... Parameters, class... Arguments>
void launch(const Launch& where, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (where.grid.x == 0 || where.grid.y == 0 || where.grid.z == 0) return;
  enqueue_kernel(where, [kernel, parameters = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] {
    std::apply(kernel, parameters);
  });
}

// The block's memory of Launch::shared_bytes, 128-byte aligned.
template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(block_shared_memory());
}

// 16 bytes to global memory at once, at a multiple of 16: st.global.v4. Of a struct nvcc makes one store or several.
inline void store_global_16(void* to, const unsigned (&words)[4]) {
  CHECK(reinterpret_cast<uintptr_t>(to) % 16 == 0, "16 bytes are stored at multiples of 16 bytes");
  std::memcpy(to, words, 16);
}

// 16 bytes from global to shared memory behind the thread's back; zeros where not `there`. A copy is done when its
// group is waited for.
inline void copy_async_16(void* shared, const void* global, bool there = true) {
  post_async_copy(shared, there ? global : nullptr, 16);
}
inline void close_copy_group() { close_async_group(); }
template <int kGroupsLeft>
void wait_for_copies() {
  finish_async_groups(kGroupsLeft);
}

// d (16, 8) += a (16, 16) b (16, 8) by a warp, bf16 into fp32: mma.sync.m16n8k16. Of lane l, with g = l / 4, t = l % 4:
//   a: rows g and g + 8 of columns 2t, 2t+1: a[0] (g, 2t), a[1] (g + 8, 2t), a[2] (g, 2t + 8), a[3] (g + 8, 2t + 8)
//   b: b[0] rows 2t, 2t+1 of column g; b[1] rows 2t + 8, 2t + 9
//   d: d[0], d[1] (g, 2t), (g, 2t + 1); d[2], d[3] (g + 8, ...)
// PTX ISA 8.7, 9.7.14.5.8; the lower half of a register is the lower column or row.
void multiply_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);

// Four 8x8 matrices of 16-bit elements from shared memory: ldmatrix.x4. Lane l gives the address of row l % 8 of matrix
// l / 8, 16-byte aligned; it gets elements 2 (l % 4), 2 (l % 4) + 1 of row l / 4 of each (kTransposed: of column l /
// 4).
template <bool kTransposed>
void load_matrices(unsigned (&r)[4], const void* shared_row);

}  // namespace gpu
}  // namespace colossus
