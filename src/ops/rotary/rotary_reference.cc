#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/rotary/rotary.h"

namespace colossus {
namespace {

double phase(const Rotary& op, double position, int64_t pair, DType dtype) {
  const double frequency =
      op.stretched.stretch(std::pow(op.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(op.head_dim)));
  if (dtype == DType::kF64) return position * frequency;
  return static_cast<float>(position) * static_cast<float>(frequency);
}

}  // namespace

template <>
void run_reference(const Rotary& op, const ReferenceCall& call) {
  const View &x = call.input(Rotary::kX), &y = call.output(Rotary::kY);
  const int64_t T = x.shape[1], D = op.head_dim, num_heads = x.shape[2] / D;
  for (int64_t token = 0; token < x.shape[0] * T; ++token) {
    const double position =
        call.has_input(Rotary::kPositions) ? call.input(Rotary::kPositions).get(token) : static_cast<double>(token % T);
    for (int64_t head = 0; head < num_heads; ++head)
      for (int64_t i = 0; i < D / 2; ++i) {
        const double angle = phase(op, position, i, x.dtype) * (op.inverse ? -1 : 1);
        const int64_t first = (token * num_heads + head) * D + i, second = first + D / 2;
        const double a = x.get(first), b = x.get(second);
        y.set(first, a * std::cos(angle) - b * std::sin(angle));
        y.set(second, b * std::cos(angle) + a * std::sin(angle));
      }
  }
}

}  // namespace colossus
