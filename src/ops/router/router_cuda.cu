#include "ops/router/router_cuda.h"

#include <climits>

#include "device/cuda/cuda_kernel.h"
#include "ops/router/expert_counts_cuda.h"
#include "ops/router/router.h"

namespace colossus {
namespace {

using gpu::RouterTokens;

// Of the blocks of tokens; they lie one behind the other in the workspace.
struct RouterBlockSums {
  double* squares;  // (blocks): of the logsumexp
  float* probs;     // (blocks, E)
  int* counts;      // (blocks, E)
  int num_blocks;
};
RouterBlockSums block_sums(std::byte* workspace, int64_t num_tokens, int64_t num_experts) {
  const int64_t blocks = gpu::divide_up(num_tokens, gpu::kRouterTokens);
  auto* probs = reinterpret_cast<float*>(workspace + blocks * 8);
  return {reinterpret_cast<double*>(workspace), probs, reinterpret_cast<int*>(probs + blocks * num_experts),
          static_cast<int>(blocks)};
}

struct RouterArguments {
  const float* logits;  // (N, E)
  float* gates;         // (N, k)
  int32_t* experts;     // (N, k)
  float* probs;         // (N, E)
  int top_k;
  bool renormalize, has_loss;
};

struct ExpertLogit {
  float logit;
  int expert;
};
// The order in which experts are chosen, a strict one: each choice is the first that comes behind the last.
__device__ __forceinline__ bool comes_before(const ExpertLogit& a, const ExpertLogit& b) {
  const bool a_is_number = a.logit == a.logit, b_is_number = b.logit == b.logit;
  if (a_is_number != b_is_number) return a_is_number;
  if (a.logit > b.logit) return true;
  return !(b.logit > a.logit) && a.expert < b.expert;
}

template <int kHeld>
__device__ __forceinline__ ExpertLogit first_behind(const ExpertLogit& last, const RouterTokens& tokens,
                                                    const float* logits) {
  ExpertLogit best{NAN, INT_MAX};
  gpu::for_own_experts<kHeld>(tokens, [&](int, int expert) {
    const ExpertLogit one{logits[expert], expert};
    if (comes_before(last, one) && comes_before(one, best)) best = one;
  });
  for (int bits = tokens.lanes / 2; bits > 0; bits /= 2) {
    const ExpertLogit other{__shfl_xor_sync(kAllLanes, best.logit, bits),
                            __shfl_xor_sync(kAllLanes, best.expert, bits)};
    if (comes_before(other, best)) best = other;
  }
  return best;
}

// Thread t has column t % columns of the rows t / columns, + parts, ...: the loads of a row are one piece of memory.
struct ColumnParts {
  int columns, parts, column, part;
  __device__ __forceinline__ explicit ColumnParts(int num_experts) : columns(1) {
    const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
    while (columns < num_experts && columns < threads) columns *= 2;
    parts = threads / columns;
    column = thread % columns;
    part = thread / columns;
  }
};

// The sums of the block's tokens, in an order that only E decides.
__device__ __forceinline__ void sum_block(const RouterTokens& tokens, const RouterArguments& call,
                                          const RouterBlockSums& sums, const float* log_sums) {
  __shared__ float probs[gpu::kRouterThreads];
  __shared__ int counts[gpu::kRouterThreads];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * gpu::kRouterTokens;
  const int64_t left = tokens.num_tokens - first;
  const int num_tokens = left < gpu::kRouterTokens ? static_cast<int>(left) : gpu::kRouterTokens;
  const int num_experts = tokens.num_experts;
  const ColumnParts own(num_experts);
  for (int begin = 0; begin < num_experts; begin += own.columns) {
    const int expert = begin + own.column;
    float prob = 0;
    int count = 0;
    for (int n = own.part; n < num_tokens && expert < num_experts; n += own.parts) {
      prob += call.probs[(first + n) * num_experts + expert];
      for (int j = 0; j < call.top_k; ++j) count += call.experts[(first + n) * call.top_k + j] == expert ? 1 : 0;
    }
    probs[threadIdx.x] = prob;
    counts[threadIdx.x] = count;
    __syncthreads();
    if (own.part == 0 && expert < num_experts) {
      for (int part = 1; part < own.parts; ++part) {
        prob += probs[part * own.columns + own.column];
        count += counts[part * own.columns + own.column];
      }
      const int64_t at = static_cast<int64_t>(blockIdx.x) * num_experts + expert;
      sums.probs[at] = prob;
      sums.counts[at] = count;
    }
    __syncthreads();
  }
  if (threadIdx.x >= 32) return;
  double square = 0;
  for (int n = gpu::lane(); n < num_tokens; n += 32) square += static_cast<double>(log_sums[n]) * log_sums[n];
  square = gpu::group_sum(square, 32);
  if (threadIdx.x == 0) sums.squares[blockIdx.x] = square;
}

// 8 E + 8 k bytes a token; logits that are looked at again come from the first cache. With E = 8 a launch of 16384
// tokens is done in the time that memory takes to answer.
template <int kHeld>
__global__ void __launch_bounds__(gpu::kRouterThreads, 2)
    router_kernel(RouterTokens tokens, RouterArguments call, RouterBlockSums sums) {
  __shared__ float log_sums[gpu::kRouterTokens];
  tokens.for_tokens([&](int64_t token, int in_block, bool there) {
    const float* logits = call.logits + token * tokens.num_experts;
    const gpu::TokenSoftmax<kHeld> softmax(tokens, logits);
    float* probs = call.probs + token * tokens.num_experts;
    gpu::for_own_experts<kHeld>(tokens, [&](int i, int expert) {
      if (there) probs[expert] = softmax.prob(i, expert);
    });
    float* gates = call.gates + token * call.top_k;
    int32_t* experts = call.experts + token * call.top_k;
    ExpertLogit chosen{INFINITY, -1};
    float chosen_sum = 0;
    for (int j = 0; j < call.top_k; ++j) {
      chosen = first_behind<kHeld>(chosen, tokens, logits);
      const float gate = softmax.prob_of(gpu::capped_logit(chosen.logit, tokens.softcap));
      chosen_sum += gate;
      if (!there || tokens.own_lane() != j % tokens.lanes) continue;
      gates[j] = gate;
      experts[j] = chosen.expert;
    }
    if (call.renormalize && there)
      for (int j = tokens.own_lane(); j < call.top_k; j += tokens.lanes) gates[j] /= chosen_sum;
    if (there && tokens.own_lane() == 0) log_sums[in_block] = softmax.log_sum;
  });
  if (!call.has_loss) return;
  __syncthreads();
  sum_block(tokens, call, sums, log_sums);
}

struct AuxFactors {
  double balance, z;  // of sum over experts of count * sum of P; of the sum of logsumexp^2
};

// One block adds the blocks: 8 E bytes for each 64 tokens.
__global__ void add_loss_kernel(RouterBlockSums sums, int num_experts, AuxFactors factors, float* aux) {
  __shared__ double scratch[32];
  __shared__ double probs[1024];
  __shared__ int counts[1024];
  const ColumnParts own(num_experts);
  double balance = 0, square = 0;
  for (int begin = 0; begin < num_experts; begin += own.columns) {
    const int expert = begin + own.column;
    double prob = 0;
    int count = 0;
    for (int block = own.part; block < sums.num_blocks && expert < num_experts; block += own.parts) {
      prob += sums.probs[static_cast<int64_t>(block) * num_experts + expert];
      count += sums.counts[static_cast<int64_t>(block) * num_experts + expert];
    }
    probs[threadIdx.x] = prob;
    counts[threadIdx.x] = count;
    __syncthreads();
    for (int part = 1; part < own.parts && own.part == 0; ++part) {
      prob += probs[part * own.columns + own.column];
      count += counts[part * own.columns + own.column];
    }
    if (own.part == 0) balance += prob * count;
    __syncthreads();
  }
  for (int block = static_cast<int>(threadIdx.x); block < sums.num_blocks; block += static_cast<int>(blockDim.x))
    square += sums.squares[block];
  const double loss = gpu::block_sum_of_doubles(factors.balance * balance + factors.z * square, scratch);
  if (threadIdx.x == 0) *aux = static_cast<float>(loss);
}

struct RouterGradArguments {
  const float *dgates, *daux;  // null: none
  const float *logits, *probs, *gates;
  const int32_t* experts;
  const unsigned* counts;  // (E); null: no such loss
  float* dlogits;
  int top_k;
  bool renormalize;
  double balance_factor, z_factor;  // of daux
};

// dz = P (dP - sum P dP) + d aux / d logsumexp P. Floor: 12 E + 12 k bytes a token.
template <int kHeld>
__global__ void __launch_bounds__(gpu::kRouterThreads, 2)
    router_grad_kernel(RouterTokens tokens, RouterGradArguments call) {
  const double daux = call.daux ? static_cast<double>(*call.daux) : 0.0;
  const auto balance = static_cast<float>(daux * call.balance_factor), z = static_cast<float>(daux * call.z_factor);
  const auto shared_dp = [&](int expert) {
    return call.counts ? balance * static_cast<float>(call.counts[expert]) : 0.0F;
  };
  tokens.for_tokens([&](int64_t token, int, bool there) {
    const gpu::TokenSoftmax<kHeld> softmax(tokens, call.logits + token * tokens.num_experts);
    const float* probs = call.probs + token * tokens.num_experts;
    const int32_t* experts = call.experts + token * call.top_k;
    const float *gates = call.gates + token * call.top_k, *dgates = call.dgates + token * call.top_k;
    float along = 0, along_gates = 0, chosen_sum = 0;
    gpu::for_own_experts<kHeld>(tokens, [&](int, int expert) { along += probs[expert] * shared_dp(expert); });
    if (call.dgates) {
      if (call.renormalize)
        for (int j = tokens.own_lane(); j < call.top_k; j += tokens.lanes) {
          along_gates += dgates[j] * gates[j];
          chosen_sum += probs[experts[j]];
        }
      along_gates = gpu::group_sum(along_gates, tokens.lanes);
      chosen_sum = call.renormalize ? gpu::group_sum(chosen_sum, tokens.lanes) : 1.0F;
      for (int j = tokens.own_lane(); j < call.top_k; j += tokens.lanes)
        along += probs[experts[j]] * ((dgates[j] - along_gates) / chosen_sum);
    }
    along = gpu::group_sum(along, tokens.lanes);
    const float shift = z == 0 ? -along : z * softmax.log_sum - along;
    gpu::for_own_experts<kHeld>(tokens, [&](int i, int expert) {
      float dp = shared_dp(expert);
      for (int j = 0; call.dgates && j < call.top_k; ++j)
        if (experts[j] == expert) dp += (dgates[j] - along_gates) / chosen_sum;
      if (there)
        call.dlogits[token * tokens.num_experts + expert] = probs[expert] * (dp + shift) * softmax.slope(i, expert);
    });
  });
}

bool has_loss(const RouterAttributes& op) { return op.balance_loss != 0 || op.z_loss != 0; }

// Of sum over experts of count * sum of P.
double balance_factor(const RouterAttributes& op, int64_t num_tokens, int64_t num_experts) {
  const auto tokens = static_cast<double>(num_tokens);
  return op.balance_loss * static_cast<double>(num_experts) / (tokens * tokens * static_cast<double>(op.top_k));
}

bool needs_counts(const RouterGrad& op, bool has_daux) { return has_daux && op.balance_loss != 0; }

}  // namespace

template <>
Status prepare_cuda(const Router& op, CudaPrepare& prepare) {
  const Shape& logits = prepare.shapes.shape(Router::kLogits);
  if (has_loss(op))
    prepare.workspace_bytes = gpu::divide_up(logits.num_rows(), gpu::kRouterTokens) * (8 + 8 * logits.row_size());
  return ok_status();
}

template <>
void run_cuda(const Router& op, const CudaCall& call) {
  const View &logits = call.input(Router::kLogits), &aux = call.output(Router::kAux);
  const int64_t num_tokens = logits.shape.num_rows(), num_experts = logits.shape.row_size();
  const RouterTokens tokens = gpu::router_tokens(num_tokens, num_experts, op.softcap);
  const RouterArguments arguments{
      .logits = logits.as<float>(),
      .gates = call.output(Router::kGates).as<float>(),
      .experts = call.output(Router::kExperts).as<int32_t>(),
      .probs = call.output(Router::kProbs).as<float>(),
      .top_k = static_cast<int>(op.top_k),
      .renormalize = op.renormalize,
      .has_loss = has_loss(op),
  };
  const RouterBlockSums sums = block_sums(call.workspace, num_tokens, num_experts);
  gpu::with_held_logits(num_experts, [&]<int kHeld>(gpu::HeldLogits<kHeld>) {
    gpu::launch(gpu::router_launch(call.stream, tokens), router_kernel<kHeld>, tokens, arguments, sums);
  });
  if (!has_loss(op)) return gpu::set_zero(call.stream, aux.data, 4);
  const AuxFactors factors{balance_factor(op, num_tokens, num_experts), op.z_loss / static_cast<double>(num_tokens)};
  gpu::launch({.stream = call.stream, .grid = {1}, .block = {1024}}, add_loss_kernel, sums,
              static_cast<int>(num_experts), factors, aux.as<float>());
}

template <>
Status prepare_cuda(const RouterGrad& op, CudaPrepare& prepare) {
  using G = RouterGrad;
  if (needs_counts(op, prepare.shapes.has_input(G::kDaux)))
    prepare.workspace_bytes = prepare.shapes.shape(G::kLogits).row_size() * 4;
  return ok_status();
}

template <>
void run_cuda(const RouterGrad& op, const CudaCall& call) {
  using G = RouterGrad;
  const View &logits = call.input(G::kLogits), &experts = call.input(G::kExperts);
  const int64_t num_tokens = logits.shape.num_rows(), num_experts = logits.shape.row_size();
  const RouterTokens tokens = gpu::router_tokens(num_tokens, num_experts, op.softcap);
  const auto optional = [&](int i) { return call.has_input(i) ? call.input(i).as<float>() : nullptr; };
  auto* counts = needs_counts(op, call.has_input(G::kDaux)) ? reinterpret_cast<unsigned*>(call.workspace) : nullptr;
  if (counts) count_experts(call.stream, experts.as<int32_t>(), experts.num_elements(), num_experts, counts);
  const RouterGradArguments arguments{
      .dgates = optional(G::kDgates),
      .daux = optional(G::kDaux),
      .logits = logits.as<float>(),
      .probs = call.input(G::kProbs).as<float>(),
      .gates = call.input(G::kGates).as<float>(),
      .experts = experts.as<int32_t>(),
      .counts = counts,
      .dlogits = call.output(G::kDlogits).as<float>(),
      .top_k = static_cast<int>(op.top_k),
      .renormalize = op.renormalize,
      .balance_factor = balance_factor(op, num_tokens, num_experts),
      .z_factor = 2 * op.z_loss / static_cast<double>(num_tokens),
  };
  gpu::with_held_logits(num_experts, [&]<int kHeld>(gpu::HeldLogits<kHeld>) {
    gpu::launch(gpu::router_launch(call.stream, tokens), router_grad_kernel<kHeld>, tokens, arguments);
  });
}

}  // namespace colossus
