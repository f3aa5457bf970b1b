#include <algorithm>
#include <cmath>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/head_cross_entropy/head_cross_entropy.h"

namespace colossus {
namespace {

std::vector<double> read(const View& x, DType rounded) {
  std::vector<double> values(static_cast<size_t>(x.num_elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = x.get(static_cast<int64_t>(i));
    if (rounded == DType::kBF16) values[i] = to_float(to_bf16(static_cast<float>(values[i])));
  }
  return values;
}

struct Head {
  std::vector<double> h;  // (N, C)
  std::vector<double> w;  // (V, C), rounded to the dtype of h
  const View& targets;
  size_t width, vocabulary;
  double scale, softcap;

  Head(const View& h_view, const View& w_view, const View& target_view, double logit_scale, double cap)
      : h(read(h_view, h_view.dtype)),
        w(read(w_view, h_view.dtype)),
        targets(target_view),
        width(static_cast<size_t>(w_view.shape[1])),
        vocabulary(static_cast<size_t>(w_view.shape[0])),
        scale(logit_scale),
        softcap(cap) {}

  size_t num_tokens() const { return static_cast<size_t>(targets.num_elements()); }
  int32_t target(size_t n) const { return targets.as<int32_t>()[n]; }
  // What the mean is over.
  double num_counted(const ReferenceCall& call, int num_targets) const {
    if (call.has_input(num_targets)) return call.input(num_targets).get(0);
    const int32_t* first = targets.as<int32_t>();
    return static_cast<double>(std::count_if(first, first + num_tokens(), [](int32_t t) { return t >= 0; }));
  }
  std::vector<double> logits(size_t n) const {
    std::vector<double> z(vocabulary);
    for (size_t v = 0; v < vocabulary; ++v) {
      for (size_t c = 0; c < width; ++c) z[v] += h[n * width + c] * w[v * width + c];
      z[v] *= scale;
      if (softcap > 0) z[v] = softcap * std::tanh(z[v] / softcap);
    }
    return z;
  }
};

double log_sum_exp(const std::vector<double>& z) {
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double value : z) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

}  // namespace

template <>
void run_reference(const HeadCrossEntropy& op, const ReferenceCall& call) {
  using F = HeadCrossEntropy;
  const Head head(call.input(F::kH), call.input(F::kW), call.input(F::kTargets), op.scale, op.softcap);
  const double num_counted = head.num_counted(call, F::kNumTargets);
  double loss = 0;
  for (size_t n = 0; n < head.num_tokens(); ++n) {
    const std::vector<double> z = head.logits(n);
    const double token_loss = head.target(n) < 0 ? 0 : log_sum_exp(z) - z.at(static_cast<size_t>(head.target(n)));
    call.output(F::kTokenLoss).set(static_cast<int64_t>(n), token_loss);
    loss += token_loss;
  }
  call.output(F::kLoss).set(0, num_counted > 0 ? loss / num_counted : 0);
}

template <>
void run_reference(const HeadCrossEntropyGrad& op, const ReferenceCall& call) {
  using G = HeadCrossEntropyGrad;
  const Head head(call.input(G::kH), call.input(G::kW), call.input(G::kTargets), op.scale, op.softcap);
  const View& dw_view = call.input(G::kDw);
  std::vector<double> dw = read(dw_view, dw_view.dtype);
  const double num_counted = head.num_counted(call, G::kNumTargets);
  double loss = 0;
  for (size_t n = 0; n < head.num_tokens(); ++n) {
    std::vector<double> dh(head.width);
    double token_loss = 0;
    if (head.target(n) >= 0) {
      const auto target = static_cast<size_t>(head.target(n));
      const std::vector<double> z = head.logits(n);
      const double log_sum = log_sum_exp(z);
      token_loss = log_sum - z.at(target);
      for (size_t v = 0; v < head.vocabulary; ++v) {
        const double t = op.softcap > 0 ? z[v] / op.softcap : 0;
        const double dlogit = call.input(G::kDloss).get(0) / num_counted *
                              (std::exp(z[v] - log_sum) - (v == target ? 1 : 0)) * (1 - t * t) * op.scale;
        for (size_t c = 0; c < head.width; ++c) {
          dh[c] += dlogit * head.w[v * head.width + c];
          dw[v * head.width + c] += dlogit * head.h[n * head.width + c];
        }
      }
    }
    for (size_t c = 0; c < head.width; ++c) call.output(G::kDh).set(static_cast<int64_t>(n * head.width + c), dh[c]);
    call.output(G::kTokenLoss).set(static_cast<int64_t>(n), token_loss);
    loss += token_loss;
  }
  for (size_t i = 0; i < dw.size(); ++i) dw_view.set(static_cast<int64_t>(i), dw[i]);
  call.output(G::kLoss).set(0, num_counted > 0 ? loss / num_counted : 0);
}

template <>
void run_reference(const CountTargets&, const ReferenceCall& call) {
  double count = 0;
  const View& targets = call.input(CountTargets::kTargets);
  for (int64_t n = 0; n < targets.num_elements(); ++n) count += targets.get(n) >= 0 ? 1 : 0;
  call.output(CountTargets::kNumTargets).set(0, count);
}

}  // namespace colossus
