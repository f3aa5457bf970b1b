#include "ops/dropout/dropout_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

constexpr int kBlocks = 16;          // computed side by side: the compiler makes vectors of these loops
constexpr int kGroup = 4 * kBlocks;  // elements they cover

// philox4x32 of base/rng.h for blocks first_block ... first_block + kBlocks - 1: bits[4 b + word].
void random_group(uint64_t first_block, const uint32_t counter[2], const uint32_t key[2], uint32_t* bits) {
  constexpr uint64_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  alignas(64) uint32_t c0[kBlocks], c1[kBlocks], c2[kBlocks], c3[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    const uint64_t block = first_block + static_cast<uint64_t>(b);
    c0[b] = static_cast<uint32_t>(block);
    c1[b] = static_cast<uint32_t>(block >> 32);
    c2[b] = counter[0];
    c3[b] = counter[1];
  }
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 1  // unrolled entirely it would no longer be a loop to make vectors of
    for (int b = 0; b < kBlocks; ++b) {
      const uint64_t p0 = kMul0 * c0[b], p1 = kMul1 * c2[b];
      c0[b] = static_cast<uint32_t>(p1 >> 32) ^ c1[b] ^ k0;
      c1[b] = static_cast<uint32_t>(p1);
      c2[b] = static_cast<uint32_t>(p0 >> 32) ^ c3[b] ^ k1;
      c3[b] = static_cast<uint32_t>(p0);
    }
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  for (int b = 0; b < kBlocks; ++b) {
    bits[4 * b] = c0[b];
    bits[4 * b + 1] = c1[b];
    bits[4 * b + 2] = c2[b];
    bits[4 * b + 3] = c3[b];
  }
}

template <class T>
void apply(const typename DropoutKernels<T>::Span& a) {
  alignas(64) uint32_t bits[kGroup];
  alignas(64) float factor[kGroup];
  int64_t done = 0;
  while (done < a.count) {
    const uint64_t at = a.first + static_cast<uint64_t>(done);
    random_group(at / 4, a.counter, a.key, bits);
    for (int i = 0; i < kGroup; ++i) factor[i] = bits[i] >= a.threshold ? a.scale : 0.0F;
    const int skip = static_cast<int>(at % 4);  // elements before `at` in its block
    const int64_t left = a.count - done, fresh = kGroup - skip, take = left < fresh ? left : fresh;
    int64_t i = 0;
    for (; i + kLanes <= take; i += kLanes)
      (F32::load(a.x + done + i) * F32::load(factor + skip + i)).store(a.y + done + i);
    if (const int tail = static_cast<int>(take - i))
      (F32::load_first(a.x + done + i, tail) * F32::load_first(factor + skip + i, tail))
          .store_first(a.y + done + i, tail);
    done += take;
  }
}

template <class T>
constexpr DropoutKernels<T> kKernels = {.apply = apply<T>};

}  // namespace

template <>
const DropoutKernels<float>& dropout_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const DropoutKernels<uint16_t>& dropout_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
