#include "ops/head_cross_entropy/head_cross_entropy_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

constexpr int64_t kStep = 4 * kLanes;  // four vectors hide the latency of a sum or a maximum

float first_of(F32 x) {
  float lane = 0;
  x.store_first(&lane, 1);
  return lane;
}

// The first n lanes of x, `behind` in the others.
F32 first_lanes(F32 x, int n, float behind) {
  float lanes[kLanes];
  F32::broadcast(behind).store(lanes);
  x.store_first(lanes, n);
  return F32::load(lanes);
}

// Caps the logits where there is a cap; their largest.
template <bool kCapped>
float cap_and_max(const LogitsRow& row) {
  const F32 cap = F32::broadcast(row.softcap);
  const F32 inverse_cap = F32::broadcast(kCapped ? 1 / row.softcap : 0.0F);
  const auto capped = [&](F32 z) {
    if constexpr (kCapped) return cap * tanh(z * inverse_cap);
    return z;
  };
  F32 largest[4];
  for (F32& x : largest) x = F32::broadcast(-__builtin_inff());
  const auto visit = [&](float* at, F32& top) {
    const F32 z = capped(F32::load(at));
    if constexpr (kCapped) z.store(at);
    top = max(z, top);
  };
  int64_t i = 0;
  for (; i + kStep <= row.count; i += kStep)
    for (int v = 0; v < 4; ++v) visit(row.logits + i + v * kLanes, largest[v]);
  for (; i + kLanes <= row.count; i += kLanes) visit(row.logits + i, largest[0]);
  if (const int left = static_cast<int>(row.count - i)) {
    const F32 z = capped(F32::load_first(row.logits + i, left));
    if constexpr (kCapped) z.store_first(row.logits + i, left);
    largest[1] = max(first_lanes(z, left, -__builtin_inff()), largest[1]);
  }
  return reduce_max(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

// The sum of exp(z - largest); with kStore the exponentials take the place of z.
template <bool kStore>
float sum_exp(const LogitsRow& row, float largest) {
  const F32 top = F32::broadcast(largest);
  F32 sum[4];
  for (F32& x : sum) x = F32::zero();
  const auto visit = [&](float* at, F32& total) {
    const F32 e = exp(F32::load(at) - top);
    if constexpr (kStore) e.store(at);
    total = total + e;
  };
  int64_t i = 0;
  for (; i + kStep <= row.count; i += kStep)
    for (int v = 0; v < 4; ++v) visit(row.logits + i + v * kLanes, sum[v]);
  for (; i + kLanes <= row.count; i += kLanes) visit(row.logits + i, sum[0]);
  if (const int left = static_cast<int>(row.count - i)) {
    const F32 e = exp(F32::load_first(row.logits + i, left) - top);
    if constexpr (kStore) e.store_first(row.logits + i, left);
    sum[1] = sum[1] + first_lanes(e, left, 0);
  }
  return reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

float loss(const LogitsRow& row) {
  const float largest = row.softcap != 0 ? cap_and_max<true>(row) : cap_and_max<false>(row);
  const float sum = sum_exp<false>(row, largest);
  return first_of(log(F32::broadcast(sum))) + (largest - row.logits[row.target]);
}

// d(factor * loss)/d(logit) = factor * (p - [v == target]) * (1 - (z / softcap)^2), from z or, without a cap, from
// exp(z - largest). Reads stay ahead of the narrower writes: element i lands at or before the i-th float.
template <bool kCapped, class T>
void write_grad(const LogitsRow& row, float largest, float inverse_sum, float factor) {
  const F32 top = F32::broadcast(largest);
  const F32 inverse_cap = F32::broadcast(kCapped ? 1 / row.softcap : 0.0F);
  const F32 scale = F32::broadcast(inverse_sum * factor);
  const auto grad = [&](F32 x, F32 minus) {
    if constexpr (!kCapped) return fma(x, scale, minus);
    const F32 t = x * inverse_cap;
    return fma(exp(x - top), scale, minus) * (F32::broadcast(1) - t * t);
  };
  const F32 target = grad(F32::broadcast(row.logits[row.target]), F32::broadcast(-factor));
  T* out = reinterpret_cast<T*>(row.logits);
  int64_t i = 0;
  for (; i + kLanes <= row.count; i += kLanes) grad(F32::load(row.logits + i), F32::zero()).store(out + i);
  if (const int left = static_cast<int>(row.count - i))
    grad(F32::load_first(row.logits + i, left), F32::zero()).store_first(out + i, left);
  target.store_first(out + row.target, 1);
}

template <bool kCapped, class T>
float capped_loss_and_grad(const LogitsRow& row, float factor) {
  const float largest = cap_and_max<kCapped>(row);
  const float below = largest - row.logits[row.target];
  const float sum = sum_exp<!kCapped>(row, largest);
  write_grad<kCapped, T>(row, largest, 1 / sum, factor);
  return first_of(log(F32::broadcast(sum))) + below;
}

template <class T>
float loss_and_grad(const LogitsRow& row, float factor) {
  return row.softcap != 0 ? capped_loss_and_grad<true, T>(row, factor) : capped_loss_and_grad<false, T>(row, factor);
}

}  // namespace

template <>
const HeadCrossEntropyKernels& head_cross_entropy_kernels<Isa>() {
  static constexpr HeadCrossEntropyKernels kernels = {loss, loss_and_grad<float>, loss_and_grad<uint16_t>};
  return kernels;
}

}  // namespace colossus
