#include <algorithm>
#include <cmath>
#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/router/router.h"
#include "ops/router/router_simd.h"

namespace colossus {
namespace {

// Sums over tokens are taken over blocks of this many, then over the blocks in order.
constexpr int64_t kBlockTokens = 128;

const RouterKernels& kernels() { return select_isa(router_kernels<Avx512>(), router_kernels<Avx2>()); }

// What a block of tokens adds to the auxiliary losses.
struct BlockSums {
  double* square;   // sum of logsumexp^2
  float* probs;     // (E) sums of P
  int32_t* counts;  // (E) slots given to each expert
};

int64_t num_blocks(int64_t num_tokens) { return (num_tokens + kBlockTokens - 1) / kBlockTokens; }
int64_t block_bytes(int64_t num_experts) { return (8 + num_experts * 8 + 63) / 64 * 64; }

BlockSums block_sums(std::byte* workspace, int64_t block, int64_t num_experts) {
  std::byte* base = workspace + block * block_bytes(num_experts);
  auto* probs = reinterpret_cast<float*>(base + 8);
  return {reinterpret_cast<double*>(base), probs, reinterpret_cast<int32_t*>(probs + num_experts)};
}

// The k experts with the largest logits in order, ties to the lower index, NaN below every number.
void choose(const float* logits, int64_t num_experts, int64_t top_k, int32_t* experts) {
  for (int64_t j = 0; j < top_k; ++j) {
    int32_t best = -1;
    for (int32_t e = 0; e < num_experts; ++e) {
      if (best >= 0 && !(logits[e] > logits[best]) && !(std::isnan(logits[best]) && !std::isnan(logits[e]))) continue;
      if (std::find(experts, experts + j, e) == experts + j) best = e;
    }
    experts[j] = best;
  }
}

struct TokenOutputs {
  float* probs;      // (E)
  int32_t* experts;  // (k)
  float* gates;      // (k)
};

float route(const Router& op, const RouterRow& row, const TokenOutputs& out) {
  const float log_sum = kernels().softmax(row, out.probs);
  choose(row.logits, row.num_experts, op.top_k, out.experts);
  float chosen_sum = 0;
  for (int64_t j = 0; j < op.top_k; ++j) chosen_sum += out.gates[j] = out.probs[out.experts[j]];
  if (op.renormalize)
    for (int64_t j = 0; j < op.top_k; ++j) out.gates[j] /= chosen_sum;
  return log_sum;
}

float auxiliary_loss(const Router& op, const CpuCall& call, int64_t num_tokens, int64_t num_experts) {
  double square = 0, balance = 0;
  for (int64_t block = 0; block < num_blocks(num_tokens); ++block)
    square += *block_sums(call.workspace, block, num_experts).square;
  for (int64_t e = 0; e < num_experts; ++e) {
    double probs = 0, count = 0;
    for (int64_t block = 0; block < num_blocks(num_tokens); ++block) {
      const BlockSums sums = block_sums(call.workspace, block, num_experts);
      probs += sums.probs[e];
      count += sums.counts[e];
    }
    balance += probs * count;
  }
  const auto tokens = static_cast<double>(num_tokens);
  balance *= op.balance_loss * static_cast<double>(num_experts) / (tokens * tokens * static_cast<double>(op.top_k));
  return static_cast<float>(balance + op.z_loss * square / tokens);
}

}  // namespace

template <>
void prepare_cpu(const Router&, CpuPrepare& prepare) {
  const Shape& logits = prepare.shapes.shape(Router::kLogits);
  prepare.workspace_bytes = num_blocks(logits.num_rows()) * block_bytes(logits.row_size());
}

template <>
void run_cpu(const Router& op, const CpuCall& call) {
  const View& logits = call.input(Router::kLogits);
  CHECK(logits.dtype == DType::kF32, "router: fp64 programs run on reference kernels");
  const int64_t num_experts = logits.shape.row_size();
  const int64_t num_tokens = logits.shape.num_rows();
  float* probs = call.output(Router::kProbs).as<float>();
  auto* experts = call.output(Router::kExperts).as<int32_t>();
  float* gates = call.output(Router::kGates).as<float>();
  call.pool.parallel_for(num_blocks(num_tokens), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const BlockSums sums = block_sums(call.workspace, block, num_experts);
      std::memset(sums.square, 0, static_cast<size_t>(block_bytes(num_experts)));
      for (int64_t n = block * kBlockTokens; n < std::min(num_tokens, (block + 1) * kBlockTokens); ++n) {
        const RouterRow row{logits.as<float>() + n * num_experts, num_experts, static_cast<float>(op.softcap)};
        const TokenOutputs out{probs + n * num_experts, experts + n * op.top_k, gates + n * op.top_k};
        const double log_sum = route(op, row, out);
        *sums.square += log_sum * log_sum;
        kernels().add(sums.probs, out.probs, num_experts);
        for (int64_t j = 0; j < op.top_k; ++j) ++sums.counts[out.experts[j]];
      }
    }
  });
  *call.output(Router::kAux).as<float>() = auxiliary_loss(op, call, num_tokens, num_experts);
}

namespace {

// d aux / d P of each expert, the same for every token: daux * balance_loss * E * f / N.
void balance_gradient(const RouterGrad& op, const CpuCall& call, float daux, int32_t* counts, float* dp) {
  const View& experts = call.input(RouterGrad::kExperts);
  const int64_t num_experts = call.input(RouterGrad::kLogits).shape.row_size();
  const auto num_tokens = static_cast<double>(experts.shape.num_rows());
  std::fill(counts, counts + num_experts, 0);
  if (daux != 0 && op.balance_loss != 0)
    for (int64_t slot = 0; slot < experts.num_elements(); ++slot) ++counts[experts.as<int32_t>()[slot]];
  const double factor = static_cast<double>(daux) * op.balance_loss * static_cast<double>(num_experts) /
                        (num_tokens * num_tokens * static_cast<double>(op.top_k));
  for (int64_t e = 0; e < num_experts; ++e) dp[e] = static_cast<float>(factor * counts[e]);
}

// Adds the gradient through the gates of token n to dp.
void add_gate_gradient(const RouterGrad& op, const CpuCall& call, int64_t n, float* dp) {
  const int32_t* experts = call.input(RouterGrad::kExperts).as<int32_t>() + n * op.top_k;
  const float* gates = call.input(RouterGrad::kGates).as<float>() + n * op.top_k;
  const float* dgates = call.input(RouterGrad::kDgates).as<float>() + n * op.top_k;
  const float* probs = call.input(RouterGrad::kProbs).as<float>() + n * call.input(RouterGrad::kProbs).shape.row_size();
  float along = 0, chosen_sum = 1;
  if (op.renormalize) {
    chosen_sum = 0;
    for (int64_t j = 0; j < op.top_k; ++j) {
      along += dgates[j] * gates[j];
      chosen_sum += probs[experts[j]];
    }
  }
  for (int64_t j = 0; j < op.top_k; ++j) dp[experts[j]] += (dgates[j] - along) / chosen_sum;
}

int64_t padded_row_bytes(int64_t num_experts) { return (num_experts * 4 + 63) / 64 * 64; }

}  // namespace

// Workspace: counts, the shared part of dP, then a row of dP for each thread.
template <>
void prepare_cpu(const RouterGrad&, CpuPrepare& prepare) {
  prepare.workspace_bytes =
      (2 + prepare.num_threads) * padded_row_bytes(prepare.shapes.shape(RouterGrad::kLogits).row_size());
}

template <>
void run_cpu(const RouterGrad& op, const CpuCall& call) {
  const View& logits = call.input(RouterGrad::kLogits);
  CHECK(logits.dtype == DType::kF32, "router_grad: fp64 programs run on reference kernels");
  const int64_t num_experts = logits.shape.row_size();
  const int64_t num_tokens = logits.shape.num_rows();
  const int64_t row_bytes = padded_row_bytes(num_experts);
  const float daux = call.has_input(RouterGrad::kDaux) ? *call.input(RouterGrad::kDaux).as<float>() : 0;
  auto* shared = reinterpret_cast<float*>(call.workspace + row_bytes);
  balance_gradient(op, call, daux, reinterpret_cast<int32_t*>(call.workspace), shared);
  const auto z_factor = static_cast<float>(2 * static_cast<double>(daux) * op.z_loss / static_cast<double>(num_tokens));
  call.pool.run([&](int part) {
    auto* dp = reinterpret_cast<float*>(call.workspace + (2 + part) * row_bytes);
    const int64_t end = num_tokens * (part + 1) / call.pool.num_threads();
    for (int64_t n = num_tokens * part / call.pool.num_threads(); n < end; ++n) {
      std::memcpy(dp, shared, static_cast<size_t>(num_experts) * 4);
      if (call.has_input(RouterGrad::kDgates)) add_gate_gradient(op, call, n, dp);
      const int64_t at = n * num_experts;
      kernels().grad({logits.as<float>() + at, num_experts, static_cast<float>(op.softcap)},
                     {dp, call.input(RouterGrad::kProbs).as<float>() + at, z_factor,
                      call.output(RouterGrad::kDlogits).as<float>() + at});
    }
  });
}

template <>
void prepare_cpu(const ExpertCounts&, CpuPrepare&) {}

template <>
void run_cpu(const ExpertCounts& op, const CpuCall& call) {
  const View& experts = call.input(ExpertCounts::kExperts);
  auto* counts = call.output(ExpertCounts::kCounts).as<int64_t>();
  std::fill(counts, counts + op.num_experts, 0);
  for (int64_t slot = 0; slot < experts.num_elements(); ++slot) {
    const int32_t expert = experts.as<int32_t>()[slot];
    CHECK(expert >= 0 && expert < op.num_experts, "expert_counts: an expert is not in 0..num_experts-1");
    ++counts[expert];
  }
}

namespace {

// Of the tokens of all ranks.
double num_tokens_of(const RouterAttributes& op, const View& counts) {
  int64_t slots = 0;
  for (int64_t e = 0; e < counts.num_elements(); ++e) slots += counts.as<int64_t>()[e];
  return static_cast<double>(slots) / static_cast<double>(op.top_k);
}

// Of sum over experts of count * P: balance_loss * E * f / N is this times the count.
double balance_factor(const RouterAttributes& op, double num_tokens, int64_t num_experts) {
  return op.balance_loss * static_cast<double>(num_experts) / (num_tokens * num_tokens * static_cast<double>(op.top_k));
}

}  // namespace

template <>
void prepare_cpu(const RouterLoss&, CpuPrepare& prepare) {
  const Shape& logits = prepare.shapes.shape(RouterLoss::kLogits);
  prepare.workspace_bytes = num_blocks(logits.num_rows()) * block_bytes(logits.row_size());
}

// Sums as Router takes them; where it counts slots, a block has the probabilities of one token.
template <>
void run_cpu(const RouterLoss& op, const CpuCall& call) {
  const View &logits = call.input(RouterLoss::kLogits), &counts = call.input(RouterLoss::kCounts);
  CHECK(logits.dtype == DType::kF32, "router_loss: fp64 programs run on reference kernels");
  const int64_t num_experts = logits.shape.row_size(), num_tokens = logits.shape.num_rows();
  call.pool.parallel_for(num_blocks(num_tokens), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const BlockSums sums = block_sums(call.workspace, block, num_experts);
      auto* probs = reinterpret_cast<float*>(sums.counts);
      std::memset(sums.square, 0, static_cast<size_t>(block_bytes(num_experts)));
      for (int64_t n = block * kBlockTokens; n < std::min(num_tokens, (block + 1) * kBlockTokens); ++n) {
        const double log_sum = kernels().softmax(
            {logits.as<float>() + n * num_experts, num_experts, static_cast<float>(op.softcap)}, probs);
        *sums.square += log_sum * log_sum;
        kernels().add(sums.probs, probs, num_experts);
      }
    }
  });
  double square = 0, balance = 0;
  for (int64_t block = 0; block < num_blocks(num_tokens); ++block) {
    const BlockSums sums = block_sums(call.workspace, block, num_experts);
    square += *sums.square;
    for (int64_t e = 0; e < num_experts; ++e)
      balance += static_cast<double>(sums.probs[e]) * static_cast<double>(counts.as<int64_t>()[e]);
  }
  const double all_tokens = num_tokens_of(op, counts);
  *call.output(RouterLoss::kAux).as<float>() =
      static_cast<float>(balance_factor(op, all_tokens, num_experts) * balance + op.z_loss * square / all_tokens);
}

// Workspace: the part of dP that all tokens share, then each thread's probabilities of one token.
template <>
void prepare_cpu(const RouterLossGrad&, CpuPrepare& prepare) {
  prepare.workspace_bytes =
      (1 + prepare.num_threads) * padded_row_bytes(prepare.shapes.shape(RouterLossGrad::kLogits).row_size());
}

template <>
void run_cpu(const RouterLossGrad& op, const CpuCall& call) {
  using G = RouterLossGrad;
  const View &logits = call.input(G::kLogits), &counts = call.input(G::kCounts);
  CHECK(logits.dtype == DType::kF32, "router_loss_grad: fp64 programs run on reference kernels");
  const int64_t num_experts = logits.shape.row_size(), num_tokens = logits.shape.num_rows();
  const double daux = *call.input(G::kDaux).as<float>(), all_tokens = num_tokens_of(op, counts);
  const double factor = daux * balance_factor(op, all_tokens, num_experts);
  auto* dp = reinterpret_cast<float*>(call.workspace);
  for (int64_t e = 0; e < num_experts; ++e)
    dp[e] = static_cast<float>(factor * static_cast<double>(counts.as<int64_t>()[e]));
  const auto z_factor = static_cast<float>(2 * daux * op.z_loss / all_tokens);
  call.pool.run([&](int part) {
    auto* probs = reinterpret_cast<float*>(call.workspace + (1 + part) * padded_row_bytes(num_experts));
    const int64_t end = num_tokens * (part + 1) / call.pool.num_threads();
    for (int64_t n = num_tokens * part / call.pool.num_threads(); n < end; ++n) {
      const RouterRow row{logits.as<float>() + n * num_experts, num_experts, static_cast<float>(op.softcap)};
      kernels().softmax(row, probs);
      kernels().grad(row, {dp, probs, z_factor, call.output(G::kDlogits).as<float>() + n * num_experts});
    }
  });
}

}  // namespace colossus
