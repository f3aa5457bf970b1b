#include "device/cuda/array_kernels.h"
#include "device/cuda/cuda_kernel.h"
#include "device/cuda/device_kernels.h"
#include "ops/elementwise/elementwise.h"

namespace colossus {
namespace {

struct AddFunction {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct ScaleFunction {
  float factor;
  __device__ float operator()(float x) const { return factor * x; }
};
struct SoftCapFunction {
  float cap;
  __device__ float operator()(float x) const { return cap * tanhf(x / cap); }
};
struct SoftCapGradFunction {
  float cap;
  __device__ float operator()(float dy, float x) const {
    const float t = tanhf(x / cap);
    return dy * (1.0F - t * t);
  }
};

}  // namespace

template <>
Status prepare_cuda(const Add&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const Add&, const CudaCall& call) {
  const View &a = call.input(Add::kA), &b = call.input(Add::kB), &y = call.output(Add::kY);
  gpu::with_type(y.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, AddFunction{}, y.as<T>(), y.num_elements(), a.as<T>(), b.as<T>());
  });
}

template <>
Status prepare_cuda(const Scale&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const Scale& op, const CudaCall& call) {
  const View &x = call.input(Scale::kX), &y = call.output(Scale::kY);
  gpu::with_type(y.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, ScaleFunction{static_cast<float>(op.factor)}, y.as<T>(), y.num_elements(), x.as<T>());
  });
}

template <>
Status prepare_cuda(const SoftCap&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const SoftCap& op, const CudaCall& call) {
  const View &x = call.input(SoftCap::kX), &y = call.output(SoftCap::kY);
  gpu::with_type(y.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, SoftCapFunction{static_cast<float>(op.cap)}, y.as<T>(), y.num_elements(), x.as<T>());
  });
}

template <>
Status prepare_cuda(const SoftCapGrad&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const SoftCapGrad& op, const CudaCall& call) {
  const View &dy = call.input(SoftCapGrad::kDy), &x = call.input(SoftCapGrad::kX), &dx = call.output(SoftCapGrad::kDx);
  gpu::with_type(dx.dtype, [&]<class T>(T*) {
    gpu::map(call.stream, SoftCapGradFunction{static_cast<float>(op.cap)}, dx.as<T>(), dx.num_elements(), dy.as<T>(),
             x.as<T>());
  });
}

template <>
Status prepare_cuda(const Cast&, CudaPrepare&) {
  return ok_status();
}
template <>
void run_cuda(const Cast&, const CudaCall& call) {
  const View &x = call.input(Cast::kX), &y = call.output(Cast::kY);
  if (x.dtype == y.dtype)
    gpu::copy_on_device(call.stream, y.data, x.data, y.num_bytes());
  else if (y.dtype == DType::kBF16)
    round_to_bf16(call.stream, x.as<float>(), y.data, y.num_elements());
  else
    widen_bf16(call.stream, x.data, y.as<float>(), y.num_elements());
}

}  // namespace colossus
