#include "ops/adamw/adamw_simd.h"

#include "device/cpu/row_loops_simd.h"
#include "device/cpu/simd.h"

namespace colossus {
namespace {

void update(const AdamWStep& step, const float* grad, float* param, float* m, float* v, int64_t count) {
  const F32 scale = F32::broadcast(step.scale), eps = F32::broadcast(step.eps), kept = F32::broadcast(step.kept);
  const F32 beta1 = F32::broadcast(step.beta1), one_minus_beta1 = F32::broadcast(step.one_minus_beta1);
  const F32 beta2 = F32::broadcast(step.beta2), one_minus_beta2 = F32::broadcast(step.one_minus_beta2);
  const F32 step_size = F32::broadcast(step.step_size), root_correction = F32::broadcast(step.root_correction);
  for_each_vector(count, [&](auto lanes, int64_t i) {
    const F32 g = scale * lanes.load(grad + i);
    const F32 first = fma(beta1, lanes.load(m + i), one_minus_beta1 * g);
    const F32 second = fma(beta2, lanes.load(v + i), one_minus_beta2 * g * g);
    const F32 move = step_size * first / fma(sqrt(second), root_correction, eps);
    lanes.store(fma(kept, lanes.load(param + i), -move), param + i);
    lanes.store(first, m + i);
    lanes.store(second, v + i);
  });
}

}  // namespace

template <>
const AdamWKernels& adamw_kernels<Isa>() {
  static constexpr AdamWKernels kernels = {.update = update};
  return kernels;
}

}  // namespace colossus
