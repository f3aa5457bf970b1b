#include "ops/token_dispatch/token_dispatch_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

template <class T>
void combine(const TokenRows<T>& token, const float* gates, const T* addend, T* y) {
  for_each_vector(token.width, [&](auto lanes, int64_t i) {
    F32 sum = addend ? lanes.load(addend + i) : F32::zero();
    for (int64_t j = 0; j < token.num_slots; ++j) {
      const F32 row = lanes.load(token.rows + token.slot_row[j] * token.width + i);
      sum = gates ? fma(F32::broadcast(gates[j]), row, sum) : sum + row;
    }
    lanes.store(sum, y + i);
  });
}

template <class T>
void combine_grad(const TokenRows<T>& token, const float* gates, const T* dy, T* drows, float* dgates) {
  for (int64_t j = 0; j < token.num_slots; ++j) {
    const int64_t row = token.slot_row[j] * token.width;
    const F32 gate = F32::broadcast(gates[j]);
    F32 dgate = F32::zero();
    for_each_vector(token.width, [&](auto lanes, int64_t i) {
      const F32 d = lanes.load(dy + i);
      dgate = fma(d, lanes.load(token.rows + row + i), dgate);
      lanes.store(gate * d, drows + row + i);
    });
    dgates[j] = reduce_add(dgate);
  }
}

}  // namespace

template <>
const TokenDispatchKernels& token_dispatch_kernels<Isa>() {
  static constexpr TokenDispatchKernels kernels = {{combine<float>, combine_grad<float>},
                                                   {combine<uint16_t>, combine_grad<uint16_t>}};
  return kernels;
}

}  // namespace colossus
