#include <cmath>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/adamw/adamw.h"

namespace colossus {
namespace {

// What an operation knows before it runs; lr, step and scale are in the GPU's memory.
struct AdamWConstants {
  float beta1, one_minus_beta1, log_beta1;
  float beta2, one_minus_beta2, log_beta2;
  float eps, weight_decay;
};

// The same for every element.
struct AdamWStep {
  float scale;            // of the gradient
  float step_size;        // lr / (1 - beta1^t)
  float root_correction;  // 1 / sqrt(1 - beta2^t)
  float kept;             // 1 - lr * weight_decay
};

// 1 - beta^t loses its digits in fp32 for small t; as -(e^(t log beta) - 1) it keeps them, without fp64.
__device__ __forceinline__ AdamWStep step_of(const AdamWConstants& c, float lr, float t, float scale) {
  return {.scale = scale,
          .step_size = -lr / expm1f(t * c.log_beta1),
          .root_correction = 1 / sqrtf(-expm1f(t * c.log_beta2)),
          .kept = 1 - lr * c.weight_decay};
}

__device__ __forceinline__ void update(const AdamWConstants& c, const AdamWStep& step, float grad, float& param,
                                       float& m, float& v) {
  const float g = step.scale * grad;
  m = c.beta1 * m + c.one_minus_beta1 * g;
  v = c.beta2 * v + c.one_minus_beta2 * g * g;
  param = step.kept * param - step.step_size * m / (sqrtf(v) * step.root_correction + c.eps);
}

// A pack of each array for each thread, the four loads under way before anything is done with them: 28 bytes an element
// cross device memory, and about 25 instructions with the step's constants, which every thread makes for itself (a
// kernel of its own would cost more than that for most tensors). The rest of an array, shorter than a pack, is one
// thread's.
template <int kSize>
__global__ void adamw_kernel(AdamWConstants constants, float* param, const float* grad, float* m, float* v,
                             const float* lr, const int64_t* step, const float* scale, int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  if (at + kSize <= num_elements) {
    float grads[kSize], params[kSize], firsts[kSize], seconds[kSize];
    gpu::load_floats(grad + at, grads);
    gpu::load_floats(param + at, params);
    gpu::load_floats(m + at, firsts);
    gpu::load_floats(v + at, seconds);
    const float factor = *scale;
    if (std::isnan(factor)) return;
    const AdamWStep now = step_of(constants, *lr, static_cast<float>(*step), factor);
    for (int i = 0; i < kSize; ++i) update(constants, now, grads[i], params[i], firsts[i], seconds[i]);
    gpu::store_floats(params, param + at);
    gpu::store_floats(firsts, m + at);
    gpu::store_floats(seconds, v + at);
    return;
  }
  const float factor = *scale;
  if (std::isnan(factor)) return;
  const AdamWStep now = step_of(constants, *lr, static_cast<float>(*step), factor);
  for (int64_t i = at; i < num_elements; ++i) update(constants, now, grad[i], param[i], m[i], v[i]);
}

}  // namespace

template <>
Status prepare_cuda(const AdamW&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const AdamW& op, const CudaCall& call) {
  constexpr int kSize = gpu::kPackSize<float>;
  const View& param = call.input(AdamW::kParam);
  CHECK(param.dtype == DType::kF32, "fp64 programs run on reference kernels");
  const AdamWConstants constants = {
      .beta1 = static_cast<float>(op.beta1),
      .one_minus_beta1 = static_cast<float>(1 - op.beta1),
      .log_beta1 = static_cast<float>(std::log(op.beta1)),
      .beta2 = static_cast<float>(op.beta2),
      .one_minus_beta2 = static_cast<float>(1 - op.beta2),
      .log_beta2 = static_cast<float>(std::log(op.beta2)),
      .eps = static_cast<float>(op.eps),
      .weight_decay = static_cast<float>(op.weight_decay),
  };
  gpu::launch(gpu::array_launch(call.stream, gpu::divide_up(param.num_elements(), kSize)), adamw_kernel<kSize>,
              constants, param.as<float>(), call.input(AdamW::kGrad).as<float>(), call.input(AdamW::kM).as<float>(),
              call.input(AdamW::kV).as<float>(), call.input(AdamW::kLr).as<float>(),
              call.input(AdamW::kStep).as<int64_t>(), call.input(AdamW::kScale).as<float>(), param.num_elements());
}

}  // namespace colossus
