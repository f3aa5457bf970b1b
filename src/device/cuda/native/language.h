// The kernel language under nvcc. emulated/language.h says what the functions of namespace gpu do.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "device/cuda/native/launch_kernel.h"
#include "tensor/dtype.h"

namespace colossus {

constexpr unsigned kAllLanes = 0xFFFFFFFFU;

namespace gpu {

__device__ __forceinline__ float float_of(BFloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ __forceinline__ float float_of(float x) { return x; }
template <class T>
__device__ __forceinline__ T rounded(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return BFloat16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x & 31); }

__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ float quick_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ int64_t nanoseconds() {
  int64_t time;
  asm volatile("mov.u64 %0, %globaltimer;\n" : "=l"(time));
  return time;
}
__device__ __forceinline__ float quick_divide(float a, float b) { return __fdividef(a, b); }

template <class... Parameters, class... Arguments>
void launch(const Launch& where, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (where.grid.x == 0 || where.grid.y == 0 || where.grid.z == 0) return;
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  const auto call = [&](Parameters... values) {
    void* addresses[] = {const_cast<void*>(static_cast<const void*>(&values))..., nullptr};
    launch_kernel(where, reinterpret_cast<const void*>(kernel), addresses);
  };
  call(std::forward<Arguments>(arguments)...);
}

template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char block_shared[];
  return reinterpret_cast<T*>(block_shared);
}

__device__ __forceinline__ void store_global_16(void* to, const unsigned (&words)[4]) {
  asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};\n" ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
}

__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool there = true) {
  const int num_bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global),
               "r"(num_bytes)
               : "memory");
}
__device__ __forceinline__ void close_copy_group() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kGroupsLeft>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroupsLeft) : "memory");
}

__device__ __forceinline__ void multiply_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <bool kTransposed>
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* shared_row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
}

}  // namespace gpu
}  // namespace colossus
