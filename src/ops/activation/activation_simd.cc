#include "ops/activation/activation_simd.h"

#include "device/cpu/row_loops_simd.h"
#include "ops/activation/activation_functions_simd.h"

namespace colossus {
namespace {

template <class F, class T>
void forward(const T* x, T* y, int64_t count) {
  for_each_vector(count, [=](auto lanes, int64_t i) { lanes.store(F::value(lanes.load(x + i)), y + i); });
}

template <class F, class T>
void grad(const T* dy, const T* x, T* dx, int64_t count) {
  for_each_vector(count, [=](auto lanes, int64_t i) {
    F32 value, slope;
    F::value_and_slope(lanes.load(x + i), value, slope);
    lanes.store(lanes.load(dy + i) * slope, dx + i);
  });
}

template <class F, class T>
void gated(const T* gate, const T* up, T* y, int64_t count) {
  for_each_vector(
      count, [=](auto lanes, int64_t i) { lanes.store(F::value(lanes.load(gate + i)) * lanes.load(up + i), y + i); });
}

template <class F, class T>
void gated_grad(const T* dy, const T* gate, const T* up, T* dgate, T* dup, int64_t count) {
  for_each_vector(count, [=](auto lanes, int64_t i) {
    F32 value, slope;
    F::value_and_slope(lanes.load(gate + i), value, slope);
    const F32 d = lanes.load(dy + i);
    lanes.store(d * lanes.load(up + i) * slope, dgate + i);
    lanes.store(d * value, dup + i);
  });
}

template <class F, class T>
constexpr ActivationKernels<T> kernels_of() {
  return {.forward = forward<F, T>, .grad = grad<F, T>, .gated = gated<F, T>, .gated_grad = gated_grad<F, T>};
}

template <class T>
constexpr ActivationKernels<T> kKernels[kNumActivationKinds] = {
    kernels_of<IdentityFunction, T>(), kernels_of<GeluTanhFunction, T>(), kernels_of<SiluFunction, T>(),
    kernels_of<Relu2Function, T>()};

template <class T>
constexpr const ActivationKernels<T>* kFirst = kKernels<T>;

}  // namespace

template <>
const ActivationKernels<float>* const& activation_kernels<Isa, float>() {
  return kFirst<float>;
}
template <>
const ActivationKernels<uint16_t>* const& activation_kernels<Isa, uint16_t>() {
  return kFirst<uint16_t>;
}

}  // namespace colossus
