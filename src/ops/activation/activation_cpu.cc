#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/simd.h"
#include "ops/activation/activation.h"
#include "ops/activation/activation_simd.h"

namespace colossus {
namespace {

// Elements below which a second thread costs more than it helps.
constexpr int64_t kGrain = 4096;

static_assert(static_cast<int>(ActivationKind::kGeluTanh) == 1 && static_cast<int>(ActivationKind::kSilu) == 2 &&
                  static_cast<int>(ActivationKind::kRelu2) == 3,
              "the order of the tables in activation_simd.cc");

template <class T>
const ActivationKernels<T>& kernels(ActivationKind kind) {
  return select_isa(activation_kernels<Avx512, T>(), activation_kernels<Avx2, T>())[static_cast<int>(kind)];
}

}  // namespace

template <>
void prepare_cpu(const Activation&, CpuPrepare&) {}
template <>
void run_cpu(const Activation& op, const CpuCall& call) {
  const View &x = call.input(Activation::kX), &y = call.output(Activation::kY);
  for_element_ranges(call.pool, y, kGrain, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>(op.kind).forward(elements<T>(x, begin), elements<T>(y, begin), end - begin);
  });
}

template <>
void prepare_cpu(const ActivationGrad&, CpuPrepare&) {}
template <>
void run_cpu(const ActivationGrad& op, const CpuCall& call) {
  using A = ActivationGrad;
  const View &dy = call.input(A::kDy), &x = call.input(A::kX), &dx = call.output(A::kDx);
  for_element_ranges(call.pool, dx, kGrain, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>(op.kind).grad(elements<T>(dy, begin), elements<T>(x, begin), elements<T>(dx, begin), end - begin);
  });
}

template <>
void prepare_cpu(const GatedActivation&, CpuPrepare&) {}
template <>
void run_cpu(const GatedActivation& op, const CpuCall& call) {
  using A = GatedActivation;
  const View &gate = call.input(A::kGate), &up = call.input(A::kUp), &y = call.output(A::kY);
  for_element_ranges(call.pool, y, kGrain, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>(op.kind).gated(elements<T>(gate, begin), elements<T>(up, begin), elements<T>(y, begin), end - begin);
  });
}

template <>
void prepare_cpu(const GatedActivationGrad&, CpuPrepare&) {}
template <>
void run_cpu(const GatedActivationGrad& op, const CpuCall& call) {
  using A = GatedActivationGrad;
  const View &dy = call.input(A::kDy), &gate = call.input(A::kGate), &up = call.input(A::kUp);
  const View &dgate = call.output(A::kDgate), &dup = call.output(A::kDup);
  for_element_ranges(call.pool, dy, kGrain, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>(op.kind).gated_grad(elements<T>(dy, begin), elements<T>(gate, begin), elements<T>(up, begin),
                                   elements<T>(dgate, begin), elements<T>(dup, begin), end - begin);
  });
}

}  // namespace colossus
