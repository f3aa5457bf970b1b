#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/adamw/adamw.h"
#include "ops/adamw/adamw_simd.h"

namespace colossus {

template <>
void prepare_cpu(const AdamW&, CpuPrepare&) {}

template <>
void run_cpu(const AdamW& op, const CpuCall& call) {
  const View& param = call.input(AdamW::kParam);
  CHECK(param.dtype == DType::kF32, "fp64 programs run on reference kernels");
  const float scale = *call.input(AdamW::kScale).as<float>();
  if (std::isnan(scale)) return;
  const double lr = *call.input(AdamW::kLr).as<float>();
  const auto t = static_cast<double>(*call.input(AdamW::kStep).as<int64_t>());
  // 1 - beta2^t loses its digits in fp32 for small t.
  const AdamWStep step = {
      .scale = scale,
      .beta1 = static_cast<float>(op.beta1),
      .one_minus_beta1 = static_cast<float>(1 - op.beta1),
      .beta2 = static_cast<float>(op.beta2),
      .one_minus_beta2 = static_cast<float>(1 - op.beta2),
      .step_size = static_cast<float>(lr / (1 - std::pow(op.beta1, t))),
      .root_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(op.beta2, t))),
      .eps = static_cast<float>(op.eps),
      .kept = static_cast<float>(1 - lr * op.weight_decay),
  };
  const AdamWKernels& kernels = select_isa(adamw_kernels<Avx512>(), adamw_kernels<Avx2>());
  const auto* grad = call.input(AdamW::kGrad).as<float>();
  auto *values = param.as<float>(), *m = call.input(AdamW::kM).as<float>(), *v = call.input(AdamW::kV).as<float>();
  call.pool.parallel_for(param.num_elements(), 1024, [&](int64_t begin, int64_t end) {
    kernels.update(step, grad + begin, values + begin, m + begin, v + begin, end - begin);
  });
}

}  // namespace colossus
