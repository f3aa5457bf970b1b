#include <algorithm>
#include <cmath>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/router/router.h"

namespace colossus {
namespace {

double capped(double logit, double softcap) { return softcap > 0 ? softcap * std::tanh(logit / softcap) : logit; }

// exp(z - logsumexp(z)) in `p`; the logsumexp is returned. z: one token's capped logits.
double softmax(const std::vector<double>& z, std::vector<double>& p) {
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (const double value : z) sum += std::exp(value - largest);
  const double log_sum = largest + std::log(sum);
  for (size_t e = 0; e < z.size(); ++e) p[e] = std::exp(z[e] - log_sum);
  return log_sum;
}

// The first of the largest among the untaken; NaN only when nothing else is left.
int64_t largest_untaken(const View& logits, int64_t first, const std::vector<bool>& taken) {
  int64_t best = -1;
  for (int64_t e = 0; e < static_cast<int64_t>(taken.size()); ++e) {
    if (taken[static_cast<size_t>(e)]) continue;
    const double value = logits.get(first + e);
    if (best < 0 || value > logits.get(first + best) || (std::isnan(logits.get(first + best)) && !std::isnan(value)))
      best = e;
  }
  return best;
}

std::vector<double> capped_row(const View& logits, int64_t token, double softcap) {
  const int64_t num_experts = logits.shape.row_size();
  std::vector<double> z;
  for (int64_t e = 0; e < num_experts; ++e) z.push_back(capped(logits.get(token * num_experts + e), softcap));
  return z;
}

}  // namespace

template <>
void run_reference(const Router& op, const ReferenceCall& call) {
  const View& logits = call.input(Router::kLogits);
  const View& gates = call.output(Router::kGates);
  const View& experts = call.output(Router::kExperts);
  const int64_t num_experts = logits.shape.row_size();
  const int64_t num_tokens = logits.shape.num_rows();
  std::vector<double> p(static_cast<size_t>(num_experts)), mean_p(p.size()), share(p.size());
  double mean_square = 0;
  for (int64_t n = 0; n < num_tokens; ++n) {
    const double log_sum = softmax(capped_row(logits, n, op.softcap), p);
    mean_square += log_sum * log_sum / static_cast<double>(num_tokens);
    for (int64_t e = 0; e < num_experts; ++e) {
      const auto at = static_cast<size_t>(e);
      call.output(Router::kProbs).set(n * num_experts + e, p[at]);
      mean_p[at] += p[at] / static_cast<double>(num_tokens);
    }
    std::vector<bool> taken(p.size());
    double chosen_sum = 0;
    for (int64_t j = 0; j < op.top_k; ++j) {
      const int64_t e = largest_untaken(logits, n * num_experts, taken);
      taken[static_cast<size_t>(e)] = true;
      experts.set(n * op.top_k + j, static_cast<double>(e));
      share[static_cast<size_t>(e)] += 1 / static_cast<double>(num_tokens * op.top_k);
      chosen_sum += p[static_cast<size_t>(e)];
    }
    for (int64_t j = 0; j < op.top_k; ++j) {
      const auto e = static_cast<size_t>(experts.get(n * op.top_k + j));
      gates.set(n * op.top_k + j, op.renormalize ? p[e] / chosen_sum : p[e]);
    }
  }
  double balance = 0;
  for (size_t e = 0; e < p.size(); ++e) balance += share[e] * mean_p[e];
  call.output(Router::kAux)
      .set(0, op.balance_loss * static_cast<double>(num_experts) * balance + op.z_loss * mean_square);
}

// dz = P * (dP - sum P dP) + d aux / d lse * P, where lse is the logsumexp of z and P = exp(z - lse).
template <>
void run_reference(const RouterGrad& op, const ReferenceCall& call) {
  using G = RouterGrad;
  const View& logits = call.input(G::kLogits);
  const View& experts = call.input(G::kExperts);
  const View& gates = call.input(G::kGates);
  const int64_t num_experts = logits.shape.row_size();
  const int64_t num_tokens = logits.shape.num_rows();
  const double daux = call.has_input(G::kDaux) ? call.input(G::kDaux).get(0) : 0;
  std::vector<double> share(static_cast<size_t>(num_experts)), p(share.size());
  for (int64_t slot = 0; slot < experts.num_elements(); ++slot)
    share[static_cast<size_t>(experts.get(slot))] += 1 / static_cast<double>(experts.num_elements());
  for (int64_t n = 0; n < num_tokens; ++n) {
    const std::vector<double> z = capped_row(logits, n, op.softcap);
    const double log_sum = softmax(z, p);
    std::vector<double> dp(p.size());
    for (size_t e = 0; e < p.size(); ++e)
      dp[e] = daux * op.balance_loss * static_cast<double>(num_experts) * share[e] / static_cast<double>(num_tokens);
    double chosen_sum = 0, along_gates = 0;
    for (int64_t slot = n * op.top_k; slot < (n + 1) * op.top_k && call.has_input(G::kDgates); ++slot) {
      chosen_sum += p[static_cast<size_t>(experts.get(slot))];
      along_gates += call.input(G::kDgates).get(slot) * gates.get(slot);
    }
    for (int64_t slot = n * op.top_k; slot < (n + 1) * op.top_k && call.has_input(G::kDgates); ++slot) {
      const double dgate = call.input(G::kDgates).get(slot);
      dp[static_cast<size_t>(experts.get(slot))] += op.renormalize ? (dgate - along_gates) / chosen_sum : dgate;
    }
    double along_p = 0;
    for (size_t e = 0; e < p.size(); ++e) along_p += p[e] * dp[e];
    const double dlog_sum = daux * op.z_loss * 2 * log_sum / static_cast<double>(num_tokens);
    for (size_t e = 0; e < p.size(); ++e) {
      const double t = op.softcap > 0 ? z[e] / op.softcap : 0;
      call.output(G::kDlogits)
          .set(n * num_experts + static_cast<int64_t>(e), p[e] * (dp[e] - along_p + dlog_sum) * (1 - t * t));
    }
  }
}

template <>
void run_reference(const ExpertCounts&, const ReferenceCall& call) {
  const View &experts = call.input(ExpertCounts::kExperts), &counts = call.output(ExpertCounts::kCounts);
  for (int64_t e = 0; e < counts.num_elements(); ++e) counts.set(e, 0);
  for (int64_t slot = 0; slot < experts.num_elements(); ++slot) {
    const auto e = static_cast<int64_t>(experts.get(slot));
    counts.set(e, counts.get(e) + 1);
  }
}

namespace {

struct Loads {
  std::vector<double> share;  // of the slots, by expert
  double num_tokens = 0;      // of all ranks
};

Loads loads_of(const View& counts, int64_t top_k) {
  Loads loads;
  double slots = 0;
  for (int64_t e = 0; e < counts.num_elements(); ++e) slots += counts.get(e);
  for (int64_t e = 0; e < counts.num_elements(); ++e) loads.share.push_back(counts.get(e) / slots);
  loads.num_tokens = slots / static_cast<double>(top_k);
  return loads;
}

}  // namespace

template <>
void run_reference(const RouterLoss& op, const ReferenceCall& call) {
  using L = RouterLoss;
  const View& logits = call.input(L::kLogits);
  const Loads loads = loads_of(call.input(L::kCounts), op.top_k);
  std::vector<double> p(loads.share.size());
  double aux = 0;
  for (int64_t n = 0; n < logits.shape.num_rows(); ++n) {
    const double log_sum = softmax(capped_row(logits, n, op.softcap), p);
    double balance = 0;
    for (size_t e = 0; e < p.size(); ++e) balance += loads.share[e] * p[e];
    aux += op.balance_loss * static_cast<double>(p.size()) * balance + op.z_loss * log_sum * log_sum;
  }
  call.output(L::kAux).set(0, aux / loads.num_tokens);
}

template <>
void run_reference(const RouterLossGrad& op, const ReferenceCall& call) {
  using G = RouterLossGrad;
  const View& logits = call.input(G::kLogits);
  const int64_t num_experts = logits.shape.row_size();
  const Loads loads = loads_of(call.input(G::kCounts), op.top_k);
  const double dtoken = call.input(G::kDaux).get(0) / loads.num_tokens;
  std::vector<double> p(loads.share.size());
  for (int64_t n = 0; n < logits.shape.num_rows(); ++n) {
    const std::vector<double> z = capped_row(logits, n, op.softcap);
    const double log_sum = softmax(z, p);
    double along_p = 0;
    for (size_t e = 0; e < p.size(); ++e) along_p += p[e] * loads.share[e];
    for (size_t e = 0; e < p.size(); ++e) {
      const double t = op.softcap > 0 ? z[e] / op.softcap : 0;
      const double dz = op.balance_loss * static_cast<double>(num_experts) * p[e] * (loads.share[e] - along_p) +
                        op.z_loss * 2 * log_sum * p[e];
      call.output(G::kDlogits).set(n * num_experts + static_cast<int64_t>(e), dtoken * dz * (1 - t * t));
    }
  }
}

}  // namespace colossus
