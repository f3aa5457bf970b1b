#include "ops/embedding/embedding_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

template <class T>
void lookup(const float* token_row, float scale, const float* position_row, T* y, int64_t width) {
  const F32 s = F32::broadcast(scale);
  if (!position_row) {
    for_each_vector(width, [=](auto lanes, int64_t i) { lanes.store(s * lanes.load(token_row + i), y + i); });
    return;
  }
  for_each_vector(width, [=](auto lanes, int64_t i) {
    lanes.store(fma(s, lanes.load(token_row + i), lanes.load(position_row + i)), y + i);
  });
}

template <class T>
void accumulate(const T* dy, float scale, float* row, int64_t width) {
  const F32 s = F32::broadcast(scale);
  for_each_vector(
      width, [=](auto lanes, int64_t i) { lanes.store(fma(s, lanes.load(dy + i), lanes.load(row + i)), row + i); });
}

template <class T>
constexpr EmbeddingKernels<T> kKernels = {.lookup = lookup<T>, .accumulate = accumulate<T>};

}  // namespace

template <>
const EmbeddingKernels<float>& embedding_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const EmbeddingKernels<uint16_t>& embedding_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
