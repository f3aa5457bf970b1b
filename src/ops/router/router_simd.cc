#include "ops/router/router_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

// work(i, n) for each run of n <= kLanes elements from i.
template <class Work>
void for_vectors(int64_t count, Work work) {
  for (int64_t i = 0; i < count; i += kLanes) work(i, static_cast<int>(count - i < kLanes ? count - i : kLanes));
}

F32 keep_first(F32 x, int n, F32 behind) {
  alignas(64) float index[kLanes];
  for (int i = 0; i < kLanes; ++i) index[i] = static_cast<float>(i);
  return select(F32::load(index) < F32::broadcast(static_cast<float>(n)), x, behind);
}

F32 capped(F32 logits, float softcap) {
  if (softcap == 0) return logits;
  return F32::broadcast(softcap) * tanh(logits * F32::broadcast(1 / softcap));
}

float log_of(float x) {
  float result[kLanes];
  log(F32::broadcast(x)).store(result);
  return result[0];
}

struct Sums {
  float largest, sum;  // of the capped logits; of exp(z - largest)
};

// exp(z - largest) in `exps`.
Sums exponentials(const RouterRow& row, float* exps) {
  F32 largest = F32::broadcast(-__builtin_inff());
  for_vectors(row.num_experts, [&](int64_t i, int n) {
    const F32 z = capped(F32::load_first(row.logits + i, n), row.softcap);
    z.store_first(exps + i, n);
    largest = max(largest, keep_first(z, n, largest));
  });
  const float top = reduce_max(largest);
  F32 sum = F32::zero();
  for_vectors(row.num_experts, [&](int64_t i, int n) {
    const F32 e = keep_first(exp(F32::load_first(exps + i, n) - F32::broadcast(top)), n, F32::zero());
    e.store_first(exps + i, n);
    sum = sum + e;
  });
  return {top, reduce_add(sum)};
}

float softmax(const RouterRow& row, float* probs) {
  const Sums sums = exponentials(row, probs);
  const F32 inverse = F32::broadcast(1 / sums.sum);
  for_vectors(row.num_experts,
              [&](int64_t i, int n) { (F32::load_first(probs + i, n) * inverse).store_first(probs + i, n); });
  return sums.largest + log_of(sums.sum);
}

void grad(const RouterRow& row, const RouterGradRow& g) {
  float log_sum = 0;
  if (g.z_factor != 0) {
    const Sums sums = exponentials(row, g.dlogits);
    log_sum = sums.largest + log_of(sums.sum);
  }
  F32 along = F32::zero();
  for_vectors(row.num_experts, [&](int64_t i, int n) {
    along = fma(F32::load_first(g.probs + i, n), F32::load_first(g.dp + i, n), along);
  });
  const F32 shift = F32::broadcast(g.z_factor * log_sum - reduce_add(along));
  for_vectors(row.num_experts, [&](int64_t i, int n) {
    F32 d = F32::load_first(g.probs + i, n) * (F32::load_first(g.dp + i, n) + shift);
    if (row.softcap != 0) {
      const F32 t = tanh(F32::load_first(row.logits + i, n) * F32::broadcast(1 / row.softcap));
      d = d * (F32::broadcast(1) - t * t);
    }
    d.store_first(g.dlogits + i, n);
  });
}

void add(float* sum, const float* x, int64_t count) {
  for_vectors(count, [&](int64_t i, int n) {
    (F32::load_first(sum + i, n) + F32::load_first(x + i, n)).store_first(sum + i, n);
  });
}

}  // namespace

template <>
const RouterKernels& router_kernels<Isa>() {
  static constexpr RouterKernels kernels = {softmax, grad, add};
  return kernels;
}

}  // namespace colossus
