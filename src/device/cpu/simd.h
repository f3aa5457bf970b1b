// Vectors for CPU kernels: one source, compiled once per instruction set (cmake/floors.cmake, colossus_simd), chosen at
// run time. The pattern, for an operation x:
//
//   x_simd.h     no standard headers but <stdint.h>/<stddef.h>; the table of kernels over raw pointers:
//       struct ScaleKernels { void (*rows)(const uint16_t* x, float factor, float* y, int64_t count); };
//       template <class Isa> const ScaleKernels& scale_kernels();   // specialised in x_simd.cc for Avx2 and Avx512
//
//   x_simd.cc    compiled twice; everything local in an unnamed namespace:
//       #include "device/cpu/simd.h"
//       namespace colossus { namespace {
//       void rows(const uint16_t* x, float factor, float* y, int64_t count) {
//         const F32 f = F32::broadcast(factor);
//         int64_t i = 0;
//         for (; i + kLanes <= count; i += kLanes) (F32::load(x + i) * f).store(y + i);
//         if (const int left = static_cast<int>(count - i)) (F32::load_first(x + i, left) * f).store_first(y + i,
//         left);
//       }
//       }  // namespace
//       template <> const ScaleKernels& scale_kernels<Isa>() {
//         static constexpr ScaleKernels kernels = {rows};
//         return kernels;
//       }}
//
//   x_cpu.cc     compiled for every processor:
//       const ScaleKernels& kernels = select_isa(scale_kernels<Avx512>(), scale_kernels<Avx2>());
//
// The trap: an inline function of a standard header, or one of ours that does not name a vector type, compiled here
// with wide instructions could be the copy the linker keeps for processors that lack them. Hence no standard headers,
// and helpers of ours either take an F32 or live in an unnamed namespace.
//
// A bf16 element is a uint16_t (the bits of a BFloat16): loads widen, stores round to nearest even.
// Reductions over lanes add in one fixed order per instruction set.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace colossus {

struct Avx2 {};
struct Avx512 {};

// Whether kernels for Avx512 are to be used: the processor has it and COLOSSUS_ISA did not lower it.
bool use_avx512();

// Only for code compiled for every processor, not inside *_simd.cc.
template <class T>
const T& select_isa(const T& avx512, const T& avx2) {
  return use_avx512() ? avx512 : avx2;
}

// Float32<Isa>: a register of floats. Specialised below for the instruction set being compiled, as F32.
template <class Isa>
struct Float32;

}  // namespace colossus

#ifdef COLOSSUS_SIMD_avx512
#include "device/cpu/simd_avx512.h"
#endif
#ifdef COLOSSUS_SIMD_avx2
#include "device/cpu/simd_avx2.h"
#endif
#if defined(COLOSSUS_SIMD_avx512) || defined(COLOSSUS_SIMD_avx2)
#include "device/cpu/simd_math.h"
#endif
