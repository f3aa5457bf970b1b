// The language of the kernels in *_cuda.cu: CUDA C++ where nvcc compiles them, and, so that every kernel is tested on
// machines without a GPU, the same source on a machine that plays one (emulated/). This is the one place that chooses.
//
// A kernel file includes this header, never <cuda_runtime.h>, and launches with launch(), never <<<>>>. Of CUDA it uses
// threadIdx, blockIdx, blockDim, gridDim (x, y, z); __shared__ (arrays of static size; alignas stands before it) and
// dynamic_shared<T>();
// __syncthreads, __syncwarp; __shfl_sync, __shfl_xor_sync, __shfl_up_sync, __shfl_down_sync, __ballot_sync with all 32
// lanes (kAllLanes); atomicAdd on integers; the functions of <cmath> in float, rsqrtf, __expf and __fdividef; and
// namespace gpu of emulated/language.h, which says what those functions are. Blocks are multiples of 32 threads.
#pragma once

#ifdef __CUDACC__
#include "device/cuda/native/language.h"
#else
#include "device/cuda/emulated/language.h"
#endif
