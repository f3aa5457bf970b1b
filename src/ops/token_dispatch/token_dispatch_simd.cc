#include "ops/token_dispatch/token_dispatch_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

// Loads and stores of whole vectors, or of the last, shorter one.
struct Whole {
  template <class T>
  F32 load(const T* p) const {
    return F32::load(p);
  }
  template <class T>
  void store(F32 x, T* p) const {
    x.store(p);
  }
};
struct First {
  int n;
  template <class T>
  F32 load(const T* p) const {
    return F32::load_first(p, n);
  }
  template <class T>
  void store(F32 x, T* p) const {
    x.store_first(p, n);
  }
};

template <class Work>
void for_vectors(int64_t count, Work work) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) work(i, Whole{});
  if (i < count) work(i, First{static_cast<int>(count - i)});
}

template <class T>
void combine(const TokenRows<T>& token, const float* gates, const T* addend, T* y) {
  for_vectors(token.width, [&](int64_t i, auto part) {
    F32 sum = addend ? part.load(addend + i) : F32::zero();
    for (int64_t j = 0; j < token.num_slots; ++j) {
      const F32 row = part.load(token.rows + token.slot_row[j] * token.width + i);
      sum = gates ? fma(F32::broadcast(gates[j]), row, sum) : sum + row;
    }
    part.store(sum, y + i);
  });
}

template <class T>
void combine_grad(const TokenRows<T>& token, const float* gates, const T* dy, T* drows, float* dgates) {
  for (int64_t j = 0; j < token.num_slots; ++j) {
    const int64_t row = token.slot_row[j] * token.width;
    const F32 gate = F32::broadcast(gates[j]);
    F32 dgate = F32::zero();
    for_vectors(token.width, [&](int64_t i, auto part) {
      const F32 d = part.load(dy + i);
      dgate = fma(d, part.load(token.rows + row + i), dgate);
      part.store(gate * d, drows + row + i);
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
