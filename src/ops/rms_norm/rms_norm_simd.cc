#include "ops/rms_norm/rms_norm_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

template <class T>
void forward(const typename RmsNormKernels<T>::Rows& a) {
  for (int64_t row = 0; row < a.rows; ++row) {
    const T* x = a.x + row * a.width;
    const float squares = sum_over_row(a.width, [=](auto lanes, int64_t i, F32 sum) {
      const F32 v = lanes.load(x + i);
      return fma(v, v, sum);
    });
    const float rstd = 1.0F / __builtin_sqrtf(squares / static_cast<float>(a.width) + a.eps);
    a.rstd[row] = rstd;
    const F32 r = F32::broadcast(rstd);
    T* y = a.y + row * a.width;
    if (!a.addend) {
      for_each_vector(
          a.width, [=](auto lanes, int64_t i) { lanes.store(lanes.load(x + i) * r * lanes.load(a.scale + i), y + i); });
      continue;
    }
    const T* addend = a.addend + row * a.width;
    for_each_vector(a.width, [=](auto lanes, int64_t i) {
      const F32 norm = rounded_to<T>(lanes.load(x + i) * r * lanes.load(a.scale + i));
      lanes.store(lanes.load(addend + i) + norm, y + i);
    });
  }
}

// dx = rstd dy scale - x rstd^3 mean(dy scale x), and dscale += dy x rstd.
template <class T, bool kDscale, bool kAddend>
void grad_rows(const typename RmsNormKernels<T>::GradRows& a) {
  for (int64_t row = 0; row < a.rows; ++row) {
    const T *x = a.x + row * a.width, *dy = a.dy + row * a.width;
    const T* addend = kAddend ? a.addend + row * a.width : nullptr;
    T* dx = a.dx + row * a.width;
    const float dot = sum_over_row(a.width, [=](auto lanes, int64_t i, F32 sum) {
      return fma(lanes.load(dy + i) * lanes.load(a.scale + i), lanes.load(x + i), sum);
    });
    const float rstd = a.rstd[row];
    const F32 r = F32::broadcast(rstd);
    const F32 along_x = F32::broadcast(-dot / static_cast<float>(a.width) * rstd * rstd * rstd);
    for_each_vector(a.width, [=](auto lanes, int64_t i) {
      const F32 v = lanes.load(x + i), d = lanes.load(dy + i) * r;
      if constexpr (kDscale) lanes.store(fma(d, v, lanes.load(a.dscale + i)), a.dscale + i);
      F32 g = fma(d, lanes.load(a.scale + i), v * along_x);
      if constexpr (kAddend) g = g + lanes.load(addend + i);
      lanes.store(g, dx + i);
    });
  }
}

template <class T>
void grad(const typename RmsNormKernels<T>::GradRows& a) {
  if (a.dscale) for_each_vector(a.width, [=](auto lanes, int64_t i) { lanes.store(F32::zero(), a.dscale + i); });
  if (a.dscale)
    a.addend ? grad_rows<T, true, true>(a) : grad_rows<T, true, false>(a);
  else
    a.addend ? grad_rows<T, false, true>(a) : grad_rows<T, false, false>(a);
}

template <class T>
constexpr RmsNormKernels<T> kKernels = {.forward = forward<T>, .grad = grad<T>};

}  // namespace

template <>
const RmsNormKernels<float>& rms_norm_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const RmsNormKernels<uint16_t>& rms_norm_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
