#include <cmath>

#include "device/cuda/array_kernels.h"
#include "device/cuda/cuda_kernel.h"
#include "ops/rotary/rotary.h"

namespace colossus {
namespace {

constexpr int kMostPairs = 512;  // of a head: kernels' arguments are at most 4 KiB

struct Frequencies {
  float of_pair[kMostPairs];
};

// theta^(-2 i / D) by repeated products: in double they round to the same floats as the powers do.
Frequencies frequencies_of(const Rotary& op) {
  Frequencies frequencies{};
  const double ratio = std::pow(op.theta, -2.0 / static_cast<double>(op.head_dim));
  double frequency = 1;
  for (int64_t i = 0; i < op.head_dim / 2; ++i, frequency *= ratio)
    frequencies.of_pair[i] = static_cast<float>(op.stretched.stretch(frequency));
  return frequencies;
}

// A block for each token: the angles of its position once, in shared memory, for all its heads. A thread turns kSize
// pairs that lie beside each other.
template <class T, int kSize>
__global__ void rotary_kernel(const T* x, T* y, const int32_t* positions, Frequencies frequencies, int64_t num_tokens,
                              int pairs, int num_heads, float sign) {
  __shared__ float cosines[kMostPairs], sines[kMostPairs];
  const int64_t token = blockIdx.x;
  const float position = static_cast<float>(positions ? positions[token] : token % num_tokens);
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += static_cast<int>(blockDim.x)) {
    const float phase = position * frequencies.of_pair[i];
    cosines[i] = cosf(phase);
    sines[i] = sign * sinf(phase);
  }
  __syncthreads();
  const int packs = pairs / kSize;
  for (int at = static_cast<int>(threadIdx.x); at < packs * num_heads; at += static_cast<int>(blockDim.x)) {
    const int head = at / packs, pair = (at - head * packs) * kSize;
    const int64_t first = (token * num_heads + head) * 2 * pairs + pair, second = first + pairs;
    float a[kSize], b[kSize];
    gpu::load_floats(x + first, a);
    gpu::load_floats(x + second, b);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float turned = a[i] * cosines[pair + i] - b[i] * sines[pair + i];
      b[i] = b[i] * cosines[pair + i] + a[i] * sines[pair + i];
      a[i] = turned;
    }
    gpu::store_floats(a, y + first);
    gpu::store_floats(b, y + second);
  }
}

}  // namespace

template <>
Status prepare_cuda(const Rotary& op, CudaPrepare&) {
  if (op.head_dim > 2 * kMostPairs) return invalid("rotary: heads of more than 1024 are not there for GPUs");
  return ok_status();
}

template <>
void run_cuda(const Rotary& op, const CudaCall& call) {
  const View &x = call.input(Rotary::kX), &y = call.output(Rotary::kY);
  const int64_t pairs = op.head_dim / 2, num_heads = x.shape[2] / op.head_dim;
  const auto* positions = call.has_input(Rotary::kPositions) ? call.input(Rotary::kPositions).as<int32_t>() : nullptr;
  gpu::with_elements(x.dtype, pairs, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch({.stream = call.stream,
                 .grid = {static_cast<unsigned>(x.shape.num_rows())},
                 .block = {gpu::threads_for_row(pairs * num_heads, kSize)}},
                rotary_kernel<T, kSize>, x.as<T>(), y.as<T>(), positions, frequencies_of(op), x.shape[1],
                static_cast<int>(pairs), static_cast<int>(num_heads), op.inverse ? -1.0F : 1.0F);
  });
}

}  // namespace colossus
