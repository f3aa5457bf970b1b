#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/elementwise/elementwise.h"

namespace colossus {

template <>
void run_reference(const Add&, const ReferenceCall& call) {
  const View &a = call.input(Add::kA), &b = call.input(Add::kB), &y = call.output(Add::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, a.get(i) + b.get(i));
}

template <>
void run_reference(const Scale& op, const ReferenceCall& call) {
  const View &x = call.input(Scale::kX), &y = call.output(Scale::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, op.factor * x.get(i));
}

template <>
void run_reference(const SoftCap& op, const ReferenceCall& call) {
  const View &x = call.input(SoftCap::kX), &y = call.output(SoftCap::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, op.cap * std::tanh(x.get(i) / op.cap));
}

template <>
void run_reference(const SoftCapGrad& op, const ReferenceCall& call) {
  const View &dy = call.input(SoftCapGrad::kDy), &x = call.input(SoftCapGrad::kX), &dx = call.output(SoftCapGrad::kDx);
  for (int64_t i = 0; i < dx.num_elements(); ++i) {
    const double t = std::tanh(x.get(i) / op.cap);
    dx.set(i, dy.get(i) * (1 - t * t));
  }
}

template <>
void run_reference(const Cast&, const ReferenceCall& call) {
  const View &x = call.input(Cast::kX), &y = call.output(Cast::kY);
  for (int64_t i = 0; i < y.num_elements(); ++i) y.set(i, x.get(i));
}

}  // namespace colossus
