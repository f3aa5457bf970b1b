#include "device/cuda/cuda_kernel.h"
#include "ops/router/router.h"
#include "ops/router/router_cuda.h"

namespace colossus {
namespace {

using gpu::RouterTokens;

// What the loss has of its attributes, of all ranks' tokens: divided by their number on the device, which counts it.
struct RouterLossFactors {
  double balance, z, top_k;
};
RouterLossFactors loss_factors(const RouterAttributes& op, int64_t num_experts) {
  return {op.balance_loss * static_cast<double>(num_experts) / static_cast<double>(op.top_k), op.z_loss,
          static_cast<double>(op.top_k)};
}

// In all lanes of a warp.
__device__ __forceinline__ double all_tokens(const int64_t* counts, int num_experts, double top_k) {
  double slots = 0;
  for (int e = gpu::lane(); e < num_experts; e += 32) slots += static_cast<double>(counts[e]);
  return gpu::group_sum(slots, 32) / top_k;
}

// Of each block of tokens: sums of P * count over its tokens and all experts, and of logsumexp^2. 4 E bytes a token.
template <int kHeld>
__global__ void __launch_bounds__(gpu::kRouterThreads, 2)
    router_loss_kernel(RouterTokens tokens, const float* logits, const int64_t* counts, double* balances,
                       double* squares) {
  __shared__ float dots[gpu::kRouterTokens], log_sums[gpu::kRouterTokens];
  tokens.for_tokens([&](int64_t token, int in_block, bool there) {
    const gpu::TokenSoftmax<kHeld> softmax(tokens, logits + token * tokens.num_experts);
    float dot = 0;
    gpu::for_own_experts<kHeld>(
        tokens, [&](int i, int expert) { dot += softmax.prob(i, expert) * static_cast<float>(counts[expert]); });
    dot = gpu::group_sum(dot, tokens.lanes);
    if (tokens.own_lane() != 0 || in_block >= gpu::kRouterTokens) return;
    dots[in_block] = there ? dot : 0;
    log_sums[in_block] = there ? softmax.log_sum : 0;
  });
  __syncthreads();
  if (threadIdx.x >= 32) return;
  double balance = 0, square = 0;
  for (int n = gpu::lane(); n < gpu::kRouterTokens; n += 32) {
    balance += static_cast<double>(dots[n]);
    square += static_cast<double>(log_sums[n]) * log_sums[n];
  }
  balance = gpu::group_sum(balance, 32);
  square = gpu::group_sum(square, 32);
  if (threadIdx.x != 0) return;
  balances[blockIdx.x] = balance;
  squares[blockIdx.x] = square;
}

__global__ void add_blocks_kernel(const double* balances, const double* squares, int num_blocks, const int64_t* counts,
                                  int num_experts, RouterLossFactors factors, float* aux) {
  __shared__ double scratch[32];
  const double num_tokens = all_tokens(counts, num_experts, factors.top_k);
  double sum = 0;
  for (int block = static_cast<int>(threadIdx.x); block < num_blocks; block += static_cast<int>(blockDim.x))
    sum += factors.balance * balances[block] / num_tokens + factors.z * squares[block];
  sum = gpu::block_sum_of_doubles(sum, scratch);
  if (threadIdx.x == 0) *aux = static_cast<float>(sum / num_tokens);
}

// 8 E bytes a token.
template <int kHeld>
__global__ void __launch_bounds__(gpu::kRouterThreads, 2)
    router_loss_grad_kernel(RouterTokens tokens, const float* daux, const float* logits, const int64_t* counts,
                            RouterLossFactors factors, float* dlogits) {
  const double num_tokens = all_tokens(counts, tokens.num_experts, factors.top_k);
  const double dtoken = static_cast<double>(*daux) / num_tokens;
  const auto balance = static_cast<float>(dtoken * factors.balance / num_tokens);
  const auto z = static_cast<float>(2 * dtoken * factors.z);
  tokens.for_tokens([&](int64_t token, int, bool there) {
    const gpu::TokenSoftmax<kHeld> softmax(tokens, logits + token * tokens.num_experts);
    float along = 0;
    gpu::for_own_experts<kHeld>(tokens, [&](int i, int expert) {
      along += softmax.prob(i, expert) * (balance * static_cast<float>(counts[expert]));
    });
    const float shift = z * softmax.log_sum - gpu::group_sum(along, tokens.lanes);
    gpu::for_own_experts<kHeld>(tokens, [&](int i, int expert) {
      const float dp = balance * static_cast<float>(counts[expert]);
      if (there)
        dlogits[token * tokens.num_experts + expert] =
            softmax.prob(i, expert) * (dp + shift) * softmax.slope(i, expert);
    });
  });
}

}  // namespace

template <>
Status prepare_cuda(const RouterLoss&, CudaPrepare& prepare) {
  prepare.workspace_bytes =
      gpu::divide_up(prepare.shapes.shape(RouterLoss::kLogits).num_rows(), gpu::kRouterTokens) * 16;
  return ok_status();
}

template <>
void run_cuda(const RouterLoss& op, const CudaCall& call) {
  const View &logits = call.input(RouterLoss::kLogits), &counts = call.input(RouterLoss::kCounts);
  const int64_t num_experts = logits.shape.row_size();
  const RouterTokens tokens = gpu::router_tokens(logits.shape.num_rows(), num_experts, op.softcap);
  const gpu::Launch blocks = gpu::router_launch(call.stream, tokens);
  auto* balances = reinterpret_cast<double*>(call.workspace);
  double* squares = balances + blocks.grid.x;
  gpu::with_held_logits(num_experts, [&]<int kHeld>(gpu::HeldLogits<kHeld>) {
    gpu::launch(blocks, router_loss_kernel<kHeld>, tokens, logits.as<float>(), counts.as<int64_t>(), balances, squares);
  });
  gpu::launch({.stream = call.stream, .grid = {1}, .block = {256}}, add_blocks_kernel, balances, squares,
              static_cast<int>(blocks.grid.x), counts.as<int64_t>(), tokens.num_experts, loss_factors(op, num_experts),
              call.output(RouterLoss::kAux).as<float>());
}

template <>
Status prepare_cuda(const RouterLossGrad&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const RouterLossGrad& op, const CudaCall& call) {
  using G = RouterLossGrad;
  const View& logits = call.input(G::kLogits);
  const int64_t num_experts = logits.shape.row_size();
  const RouterTokens tokens = gpu::router_tokens(logits.shape.num_rows(), num_experts, op.softcap);
  gpu::with_held_logits(num_experts, [&]<int kHeld>(gpu::HeldLogits<kHeld>) {
    gpu::launch(gpu::router_launch(call.stream, tokens), router_loss_grad_kernel<kHeld>, tokens,
                call.input(G::kDaux).as<float>(), logits.as<float>(), call.input(G::kCounts).as<int64_t>(),
                loss_factors(op, num_experts), call.output(G::kDlogits).as<float>());
  });
}

}  // namespace colossus
