#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/simd.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/elementwise_simd.h"

namespace colossus {
namespace {

template <class T>
const ElementwiseKernels<T>& kernels() {
  return select_isa(elementwise_kernels<Avx512, T>(), elementwise_kernels<Avx2, T>());
}

}  // namespace

template <>
void prepare_cpu(const Add&, CpuPrepare&) {}
template <>
void run_cpu(const Add&, const CpuCall& call) {
  const View &a = call.input(Add::kA), &b = call.input(Add::kB), &y = call.output(Add::kY);
  for_element_ranges(call.pool, y, kGrainElements, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().add(elements<T>(a, begin), elements<T>(b, begin), elements<T>(y, begin), end - begin);
  });
}

template <>
void prepare_cpu(const Scale&, CpuPrepare&) {}
template <>
void run_cpu(const Scale& op, const CpuCall& call) {
  const View &x = call.input(Scale::kX), &y = call.output(Scale::kY);
  for_element_ranges(call.pool, y, kGrainElements, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().scale(elements<T>(x, begin), static_cast<float>(op.factor), elements<T>(y, begin), end - begin);
  });
}

template <>
void prepare_cpu(const SoftCap&, CpuPrepare&) {}
template <>
void run_cpu(const SoftCap& op, const CpuCall& call) {
  const View &x = call.input(SoftCap::kX), &y = call.output(SoftCap::kY);
  for_element_ranges(call.pool, y, kGrainElements, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().soft_cap(elements<T>(x, begin), static_cast<float>(op.cap), elements<T>(y, begin), end - begin);
  });
}

template <>
void prepare_cpu(const SoftCapGrad&, CpuPrepare&) {}
template <>
void run_cpu(const SoftCapGrad& op, const CpuCall& call) {
  const View &dy = call.input(SoftCapGrad::kDy), &x = call.input(SoftCapGrad::kX), &dx = call.output(SoftCapGrad::kDx);
  for_element_ranges(call.pool, dx, kGrainElements, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().soft_cap_grad(elements<T>(dy, begin), elements<T>(x, begin), static_cast<float>(op.cap),
                               elements<T>(dx, begin), end - begin);
  });
}

template <>
void prepare_cpu(const Cast&, CpuPrepare&) {}
template <>
void run_cpu(const Cast&, const CpuCall& call) {
  const View &x = call.input(Cast::kX), &y = call.output(Cast::kY);
  for_element_ranges(call.pool, x, kGrainElements, [&]<class T>(int64_t begin, int64_t end) {
    visit_elements(y.dtype, [&]<class To>() {
      const T* from = elements<T>(x, begin);
      To* to = elements<To>(y, begin);
      if constexpr (sizeof(To) == sizeof(float))
        kernels<T>().to_f32(from, to, end - begin);
      else
        kernels<T>().to_bf16(from, to, end - begin);
    });
  });
}

}  // namespace colossus
