#include "ops/embedding/embedding_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

template <class T, class TokenRow, class PositionRow>
void lookup(const void* token_elements, float scale, const void* position_elements, T* y, int64_t width) {
  const auto* token_row = static_cast<const TokenRow*>(token_elements);
  const auto* position_row = static_cast<const PositionRow*>(position_elements);
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
constexpr EmbeddingKernels<T> kKernels = {
    .lookup = {{lookup<T, float, float>, lookup<T, float, uint16_t>},
               {lookup<T, uint16_t, float>, lookup<T, uint16_t, uint16_t>}},
    .accumulate = accumulate<T>,
};

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
