#include "ops/activation/activation_cuda.h"

#include "device/cuda/array_kernels.h"
#include "device/cuda/cuda_kernel.h"
#include "ops/activation/activation.h"

namespace colossus {
namespace {

struct ValueFunction {
  ActivationKind kind;
  __device__ float operator()(float x) const { return activation_value(kind, x); }
};
struct SlopeFunction {
  ActivationKind kind;
  __device__ float operator()(float dy, float x) const { return dy * activation_of(kind, x).slope; }
};
struct GatedFunction {
  ActivationKind kind;
  __device__ float operator()(float gate, float up) const { return activation_value(kind, gate) * up; }
};

// Two results of one reading.
template <class T>
__global__ void gated_grad_kernel(ActivationKind kind, const T* dy, const T* gate, const T* up, T* dgate, T* dup,
                                  int64_t num_elements) {
  constexpr int kSize = gpu::kPackSize<T>;
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  if (at + kSize <= num_elements) {
    float gates[kSize], ups[kSize], grads[kSize];
    gpu::load_floats(dy + at, grads);
    gpu::load_floats(gate + at, gates);
    gpu::load_floats(up + at, ups);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const ValueAndSlope f = activation_of(kind, gates[i]);
      gates[i] = grads[i] * ups[i] * f.slope;
      ups[i] = grads[i] * f.value;
    }
    gpu::store_floats(gates, dgate + at);
    gpu::store_floats(ups, dup + at);
  } else {
    for (int64_t i = at; i < num_elements; ++i) {
      const ValueAndSlope f = activation_of(kind, gpu::float_of(gate[i]));
      const float grad = gpu::float_of(dy[i]);
      dgate[i] = gpu::rounded<T>(grad * gpu::float_of(up[i]) * f.slope);
      dup[i] = gpu::rounded<T>(grad * f.value);
    }
  }
}

}  // namespace

template <>
Status prepare_cuda(const Activation&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const Activation& op, const CudaCall& call) {
  const View &x = call.input(Activation::kX), &y = call.output(Activation::kY);
  gpu::with_type(y.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, ValueFunction{op.kind}, y.as<T>(), y.num_elements(), x.as<T>());
  });
}

template <>
Status prepare_cuda(const ActivationGrad&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const ActivationGrad& op, const CudaCall& call) {
  using A = ActivationGrad;
  const View &dy = call.input(A::kDy), &x = call.input(A::kX), &dx = call.output(A::kDx);
  gpu::with_type(dx.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, SlopeFunction{op.kind}, dx.as<T>(), dx.num_elements(), dy.as<T>(), x.as<T>());
  });
}

template <>
Status prepare_cuda(const GatedActivation&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const GatedActivation& op, const CudaCall& call) {
  using A = GatedActivation;
  const View &gate = call.input(A::kGate), &up = call.input(A::kUp), &y = call.output(A::kY);
  gpu::with_type(y.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, GatedFunction{op.kind}, y.as<T>(), y.num_elements(), gate.as<T>(), up.as<T>());
  });
}

template <>
Status prepare_cuda(const GatedActivationGrad&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const GatedActivationGrad& op, const CudaCall& call) {
  using A = GatedActivationGrad;
  const View &dy = call.input(A::kDy), &gate = call.input(A::kGate), &up = call.input(A::kUp);
  gpu::with_type(dy.dtype, [&]<class T>(T*) {
    gpu::launch(gpu::array_launch(call.stream, gpu::divide_up(dy.num_elements(), gpu::kPackSize<T>)),
                gated_grad_kernel<T>, op.kind, dy.as<T>(), gate.as<T>(), up.as<T>(), call.output(A::kDgate).as<T>(),
                call.output(A::kDup).as<T>(), dy.num_elements());
  });
}

}  // namespace colossus
