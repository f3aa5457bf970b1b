#include "ops/layer_norm/layer_norm_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

// The variance is summed around the mean in a pass of its own: mean(x^2) - mean(x)^2 cancels when |mean| >> std.
template <class T>
void forward(const typename LayerNormKernels<T>::Rows& a) {
  const auto n = static_cast<float>(a.width);
  for (int64_t row = 0; row < a.rows; ++row) {
    const T* x = a.x + row * a.width;
    T* y = a.y + row * a.width;
    const float mean =
        sum_over_row(a.width, [=](auto lanes, int64_t i, F32 sum) { return sum + lanes.load(x + i); }) / n;
    const F32 m = F32::broadcast(mean);
    const float squares = sum_over_row(a.width, [=](auto lanes, int64_t i, F32 sum) {
      const F32 centred = lanes.first_or_zero(lanes.load(x + i) - m);
      return fma(centred, centred, sum);
    });
    const float rstd = 1.0F / __builtin_sqrtf(squares / n + a.eps);
    a.mean[row] = mean;
    a.rstd[row] = rstd;
    const F32 r = F32::broadcast(rstd);
    if (a.bias) {
      for_each_vector(a.width, [=](auto lanes, int64_t i) {
        lanes.store(fma((lanes.load(x + i) - m) * r, lanes.load(a.scale + i), lanes.load(a.bias + i)), y + i);
      });
    } else {
      for_each_vector(a.width, [=](auto lanes, int64_t i) {
        lanes.store((lanes.load(x + i) - m) * r * lanes.load(a.scale + i), y + i);
      });
    }
  }
}

template <class T, bool kSums, bool kAddend>
void grad_rows(const typename LayerNormKernels<T>::GradRows& a) {
  const auto n = static_cast<float>(a.width);
  for (int64_t row = 0; row < a.rows; ++row) {
    const T *x = a.x + row * a.width, *dy = a.dy + row * a.width;
    const T* addend = kAddend ? a.addend + row * a.width : nullptr;
    T* dx = a.dx + row * a.width;
    const F32 m = F32::broadcast(a.mean[row]), r = F32::broadcast(a.rstd[row]);
    const float mean_dn =
        sum_over_row(a.width, [=](auto lanes, int64_t i,
                                  F32 sum) { return fma(lanes.load(dy + i), lanes.load(a.scale + i), sum); }) /
        n;
    // dy is 0 behind the row's end, so that x - mean there does not count.
    const float mean_dn_n = sum_over_row(a.width,
                                         [=](auto lanes, int64_t i, F32 sum) {
                                           const F32 dn = lanes.load(dy + i) * lanes.load(a.scale + i);
                                           return fma(dn, (lanes.load(x + i) - m) * r, sum);
                                         }) /
                            n;
    const F32 b = F32::broadcast(mean_dn), c = F32::broadcast(mean_dn_n);
    for_each_vector(a.width, [=](auto lanes, int64_t i) {
      const F32 normed = (lanes.load(x + i) - m) * r, d = lanes.load(dy + i);
      if constexpr (kSums) {
        lanes.store(fma(d, normed, lanes.load(a.dscale + i)), a.dscale + i);
        lanes.store(d + lanes.load(a.dbias + i), a.dbias + i);
      }
      F32 g = r * (fma(d, lanes.load(a.scale + i), -b) - normed * c);
      if constexpr (kAddend) g = g + lanes.load(addend + i);
      lanes.store(g, dx + i);
    });
  }
}

template <class T>
void grad(const typename LayerNormKernels<T>::GradRows& a) {
  if (!a.dscale) {
    a.addend ? grad_rows<T, false, true>(a) : grad_rows<T, false, false>(a);
    return;
  }
  for_each_vector(a.width, [=](auto lanes, int64_t i) {
    lanes.store(F32::zero(), a.dscale + i);
    lanes.store(F32::zero(), a.dbias + i);
  });
  a.addend ? grad_rows<T, true, true>(a) : grad_rows<T, true, false>(a);
}

template <class T>
constexpr LayerNormKernels<T> kKernels = {.forward = forward<T>, .grad = grad<T>};

}  // namespace

template <>
const LayerNormKernels<float>& layer_norm_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const LayerNormKernels<uint16_t>& layer_norm_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
