#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/layer_norm/layer_norm.h"

namespace colossus {

template <>
void run_reference(const LayerNorm& op, const ReferenceCall& call) {
  using N = LayerNorm;
  const View &x = call.input(N::kX), &scale = call.input(N::kScale), &y = call.output(N::kY);
  const int64_t rows = x.shape.num_rows(), width = x.shape.row_size();
  const auto n = static_cast<double>(width);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < width; ++c) mean += x.get(at + c) / n;
    for (int64_t c = 0; c < width; ++c) variance += (x.get(at + c) - mean) * (x.get(at + c) - mean) / n;
    const double rstd = 1 / std::sqrt(variance + op.eps);
    call.output(N::kMean).set(row, mean);
    call.output(N::kRstd).set(row, rstd);
    for (int64_t c = 0; c < width; ++c) {
      const double bias = call.has_input(N::kBias) ? call.input(N::kBias).get(c) : 0;
      y.set(at + c, (x.get(at + c) - mean) * rstd * scale.get(c) + bias);
    }
  }
}

// With n = (x - mean) rstd: y = n scale + bias, so dn = dy scale and dx = rstd (dn - mean(dn) - n mean(dn n)).
template <>
void run_reference(const LayerNormGrad&, const ReferenceCall& call) {
  using N = LayerNormGrad;
  const View &dy = call.input(N::kDy), &x = call.input(N::kX), &scale = call.input(N::kScale);
  const int64_t rows = x.shape.num_rows(), width = x.shape.row_size();
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    const double mean = call.input(N::kMean).get(row), rstd = call.input(N::kRstd).get(row);
    double mean_dn = 0, mean_dn_n = 0;
    for (int64_t c = 0; c < width; ++c) {
      const double dn = dy.get(at + c) * scale.get(c), n = (x.get(at + c) - mean) * rstd;
      mean_dn += dn / static_cast<double>(width);
      mean_dn_n += dn * n / static_cast<double>(width);
    }
    for (int64_t c = 0; c < width; ++c) {
      const double dn = dy.get(at + c) * scale.get(c), n = (x.get(at + c) - mean) * rstd;
      const double addend = call.has_input(N::kAddend) ? call.input(N::kAddend).get(at + c) : 0;
      call.output(N::kDx).set(at + c, rstd * (dn - mean_dn - n * mean_dn_n) + addend);
    }
  }
  for (int64_t c = 0; c < width; ++c) {
    double dscale = 0, dbias = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = row * width + c;
      dscale += dy.get(at) * (x.get(at) - call.input(N::kMean).get(row)) * call.input(N::kRstd).get(row);
      dbias += dy.get(at);
    }
    if (call.has_input(N::kDscale)) call.input(N::kDscale).set(c, call.input(N::kDscale).get(c) + dscale);
    if (call.has_input(N::kDbias)) call.input(N::kDbias).set(c, call.input(N::kDbias).get(c) + dbias);
  }
}

}  // namespace colossus
