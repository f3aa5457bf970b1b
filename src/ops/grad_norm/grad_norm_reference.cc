#include <algorithm>
#include <cmath>
#include <limits>

#include "device/cpu/cpu_kernel.h"
#include "ops/grad_norm/grad_norm.h"

namespace colossus {

template <>
void run_reference(const GradNorm&, const ReferenceCall& call) {
  double sum = 0;
  for (int input = 0; input < call.num_inputs(); ++input) {
    const View& grad = call.input(input);
    for (int64_t i = 0; i < grad.num_elements(); ++i) sum += grad.get(i) * grad.get(i);
  }
  call.output(GradNorm::kNorm).set(0, std::sqrt(sum));
}

template <>
void run_reference(const ClipScale& op, const ReferenceCall& call) {
  const double norm = call.input(ClipScale::kNorm).get(0);
  double scale = op.max_norm == 0 ? 1 : std::min(1.0, op.max_norm / (norm + 1e-6));
  const bool finite =
      std::isfinite(norm) && (!call.has_input(ClipScale::kLoss) || std::isfinite(call.input(ClipScale::kLoss).get(0)));
  if (!finite) scale = std::numeric_limits<double>::quiet_NaN();
  call.output(ClipScale::kScale).set(0, scale);
}

}  // namespace colossus
