#include <algorithm>
#include <cmath>
#include <limits>

#include "base/exact_sum.h"
#include "device/cpu/cpu_kernel.h"
#include "ops/grad_norm/grad_norm.h"

namespace colossus {

template <>
void run_reference(const SumOfSquares&, const ReferenceCall& call) {
  constexpr int kLowest = ExactSum::kLowestExponent;
  ExactSum sum;
  for (int input = 0; input < call.num_inputs(); ++input) {
    const View& grad = call.input(input);
    for (int64_t i = 0; i < grad.num_elements(); ++i) {
      // Squares of floats are multiples of 2^kLowest; those of doubles become ones.
      const double square = grad.get(i) * grad.get(i);
      sum.add(std::ldexp(std::nearbyint(std::ldexp(square, -kLowest)), kLowest));
    }
  }
  std::ranges::copy(sum.words(), call.output(SumOfSquares::kSum).as<int64_t>());
}

template <>
void run_reference(const ExactSumValue& op, const ReferenceCall& call) {
  ExactSum::Words words;
  std::copy_n(call.input(ExactSumValue::kSum).as<int64_t>(), words.size(), words.begin());
  const double value = op.scale * ExactSum(words).value();
  call.output(ExactSumValue::kValue).set(0, op.square_root ? std::sqrt(value) : value);
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
