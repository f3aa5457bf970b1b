#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/dropout/dropout.h"

namespace colossus {
namespace {

// What of DropoutMask does not depend on numbers that only the GPU has: the key's words (base/rng.h), and the rate.
struct MaskConstants {
  uint32_t stream_and_purpose;  // the counter's last word
  uint32_t threshold;
  float scale;
};

// The four numbers of a block: philox4x32 of base/rng.h.
struct RandomBlock {
  uint32_t words[4];
};
__device__ __forceinline__ RandomBlock random_block_at(uint64_t block, uint64_t seed, uint32_t step,
                                                       uint32_t stream_and_purpose) {
  constexpr uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = step,
           c3 = stream_and_purpose;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kMul0 * c0, p1 = kMul1 * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// A thread for kSize elements of a row. Where a row begins at a multiple of four of the global batch, a block of random
// numbers serves four of them.
template <class T, int kSize>
__global__ void dropout_kernel(const T* x, T* y, const int64_t* rng, const int32_t* positions, MaskConstants mask,
                               int64_t num_elements, int64_t tokens, int64_t width, int64_t sequence_tokens) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  const uint64_t seed = static_cast<uint64_t>(rng[0]);
  const uint32_t step = static_cast<uint32_t>(rng[1]);
  int64_t index = rng[2] * tokens * width + at;
  if (positions) {
    const int64_t row = at / width;
    index = ((rng[2] + row / tokens) * sequence_tokens + positions[row]) * width + (at - row * width);
  }
  float values[kSize];
  gpu::load_floats(x + at, values);
  RandomBlock random{};
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const uint64_t element = static_cast<uint64_t>(index + i);
    if (i == 0 || element % 4 == 0) random = random_block_at(element / 4, seed, step, mask.stream_and_purpose);
    const uint64_t word = element % 4;
    const uint32_t bits = word == 0   ? random.words[0]
                          : word == 1 ? random.words[1]
                          : word == 2 ? random.words[2]
                                      : random.words[3];
    values[i] *= bits >= mask.threshold ? mask.scale : 0.0F;
  }
  gpu::store_floats(values, y + at);
}

}  // namespace

template <>
Status prepare_cuda(const Dropout&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const Dropout& op, const CudaCall& call) {
  const View &x = call.input(Dropout::kX), &y = call.output(Dropout::kY);
  const DropoutMask mask(op, 0, 0);
  const MaskConstants constants{.stream_and_purpose = static_cast<uint32_t>(mask.key.purpose) << 16 |
                                                      static_cast<uint32_t>(mask.key.step >> 32 & 0xFFFF),
                                .threshold = mask.threshold,
                                .scale = static_cast<float>(mask.scale)};
  const int32_t* positions =
      call.has_input(Dropout::kPositions) ? call.input(Dropout::kPositions).as<int32_t>() : nullptr;
  gpu::with_elements(x.dtype, x.shape.row_size(), [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(gpu::array_launch(call.stream, x.num_elements() / kSize), dropout_kernel<T, kSize>, x.as<T>(),
                y.as<T>(), call.input(Dropout::kRng).as<int64_t>(), positions, constants, x.num_elements(), x.shape[1],
                x.shape[2], op.sequence_tokens);
  });
}

}  // namespace colossus
