#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/rms_norm/rms_norm.h"

namespace colossus {
namespace {

double rounded_to(DType dtype, double value) {
  if (dtype == DType::kBF16) return to_float(to_bf16(static_cast<float>(value)));
  return dtype == DType::kF32 ? static_cast<float>(value) : value;
}

}  // namespace

template <>
void run_reference(const RmsNorm& op, const ReferenceCall& call) {
  using N = RmsNorm;
  const View &x = call.input(N::kX), &scale = call.input(N::kScale), &y = call.output(N::kY);
  const int64_t width = scale.shape[0], rows = x.num_elements() / width;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    double sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += x.get(at + c) * x.get(at + c);
    const double rstd = 1 / std::sqrt(sum / static_cast<double>(width) + op.eps);
    call.output(N::kRstd).set(row, rstd);
    for (int64_t c = 0; c < width; ++c) {
      const double norm = rounded_to(x.dtype, x.get(at + c) * rstd * scale.get(c));
      y.set(at + c, call.has_input(N::kAddend) ? call.input(N::kAddend).get(at + c) + norm : norm);
    }
  }
}

// With n = x rstd: y = n scale, so dn = dy scale and dx = rstd (dn - n mean(dn n)).
template <>
void run_reference(const RmsNormGrad&, const ReferenceCall& call) {
  using N = RmsNormGrad;
  const View &dy = call.input(N::kDy), &x = call.input(N::kX), &scale = call.input(N::kScale);
  const int64_t width = scale.shape[0], rows = x.num_elements() / width;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    const double rstd = call.input(N::kRstd).get(row);
    double mean = 0;
    for (int64_t c = 0; c < width; ++c)
      mean += dy.get(at + c) * scale.get(c) * x.get(at + c) * rstd / static_cast<double>(width);
    for (int64_t c = 0; c < width; ++c) {
      const double n = x.get(at + c) * rstd;
      const double addend = call.has_input(N::kAddend) ? call.input(N::kAddend).get(at + c) : 0;
      call.output(N::kDx).set(at + c, rstd * (dy.get(at + c) * scale.get(c) - n * mean) + addend);
    }
  }
  if (!call.has_input(N::kDscale)) return;
  for (int64_t c = 0; c < width; ++c) {
    double sum = 0;
    for (int64_t row = 0; row < rows; ++row)
      sum += dy.get(row * width + c) * x.get(row * width + c) * call.input(N::kRstd).get(row);
    call.input(N::kDscale).set(c, call.input(N::kDscale).get(c) + sum);
  }
}

}  // namespace colossus
