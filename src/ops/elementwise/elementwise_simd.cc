#include "ops/elementwise/elementwise_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

// y[i] = f(x[i])
template <class From, class To, class F>
void map(const From* x, To* y, int64_t count, F f) {
  for_each_vector(count, [=](auto lanes, int64_t i) { lanes.store(f(lanes.load(x + i)), y + i); });
}

// y[i] = f(a[i], b[i])
template <class T, class F>
void zip(const T* a, const T* b, T* y, int64_t count, F f) {
  for_each_vector(count, [=](auto lanes, int64_t i) { lanes.store(f(lanes.load(a + i), lanes.load(b + i)), y + i); });
}

template <class T>
void add(const T* a, const T* b, T* y, int64_t count) {
  zip(a, b, y, count, [](F32 u, F32 v) { return u + v; });
}

template <class T>
void scale(const T* x, float factor, T* y, int64_t count) {
  const F32 f = F32::broadcast(factor);
  map(x, y, count, [=](F32 v) { return f * v; });
}

template <class T>
void soft_cap(const T* x, float cap, T* y, int64_t count) {
  const F32 c = F32::broadcast(cap), inverse = F32::broadcast(1.0F / cap);
  map(x, y, count, [=](F32 v) { return c * tanh(v * inverse); });
}

// 1 - tanh(u)^2 = 4 s (1 - s) with s = sigmoid(-2 |u|): no cancellation where tanh is near 1.
template <class T>
void soft_cap_grad(const T* dy, const T* x, float cap, T* dx, int64_t count) {
  const F32 minus_two = F32::broadcast(-2.0F / cap), four = F32::broadcast(4.0F), one = F32::broadcast(1.0F);
  zip(dy, x, dx, count, [=](F32 d, F32 v) {
    const F32 s = sigmoid(minus_two * abs(v));
    return d * (four * s * (one - s));
  });
}

template <class T, class To>
void convert(const T* x, To* y, int64_t count) {
  map(x, y, count, [](F32 v) { return v; });
}

template <class T>
constexpr ElementwiseKernels<T> kKernels = {
    .add = add<T>,
    .scale = scale<T>,
    .soft_cap = soft_cap<T>,
    .soft_cap_grad = soft_cap_grad<T>,
    .to_f32 = convert<T, float>,
    .to_bf16 = convert<T, uint16_t>,
};

}  // namespace

template <>
const ElementwiseKernels<float>& elementwise_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const ElementwiseKernels<uint16_t>& elementwise_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
