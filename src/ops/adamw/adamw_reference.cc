#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/adamw/adamw.h"

namespace colossus {

template <>
void run_reference(const AdamW& op, const ReferenceCall& call) {
  const double scale = call.input(AdamW::kScale).get(0);
  if (std::isnan(scale)) return;
  const double lr = call.input(AdamW::kLr).get(0), t = call.input(AdamW::kStep).get(0);
  const View &param = call.input(AdamW::kParam), &grad = call.input(AdamW::kGrad);
  const View &first = call.input(AdamW::kM), &second = call.input(AdamW::kV);
  for (int64_t i = 0; i < param.num_elements(); ++i) {
    const double g = scale * grad.get(i);
    const double m = op.beta1 * first.get(i) + (1 - op.beta1) * g;
    const double v = op.beta2 * second.get(i) + (1 - op.beta2) * g * g;
    const double m_hat = m / (1 - std::pow(op.beta1, t)), v_hat = v / (1 - std::pow(op.beta2, t));
    param.set(i, param.get(i) - lr * (m_hat / (std::sqrt(v_hat) + op.eps) + op.weight_decay * param.get(i)));
    first.set(i, m);
    second.set(i, v);
  }
}

}  // namespace colossus
