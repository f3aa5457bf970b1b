#include <algorithm>
#include <vector>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "device/cuda/weight.h"
#include "ops/head_cross_entropy/head_cross_entropy.h"
#include "ops/head_cross_entropy/logit_rows_cuda.h"

namespace colossus {
namespace {

// Logits are fp32, like the CPU's: in bf16 a logit of 16 would be off by up to 1/32, and its probability by 3 percent.
// That is 4 of the 14 bytes that a logit moves (written, read, its gradient written and read by two products), beside
// 6 C FLOPs: 2 percent of the head's time at C = 6144, 10 at C = 768. They take kLogitsBytes; their gradient, bf16, is
// gathered beside them over kGradTimes as many tokens, because each product that adds into dw reads and writes all of
// it: 8 bytes an element, the time in which such a product gets through about 700 tokens. The weights, which each
// product of logits reads, want 256 tokens. 128 Ki words have 256 and 1024.
constexpr int64_t kLogitsBytes = 128 << 20;
constexpr int64_t kGradTimes = 4;
// From here on products gain nothing.
constexpr int64_t kMaxLogitsTokens = 4096;
constexpr int64_t kTokensMultiple = 128;  // the rows of a tile of the products

int64_t round_up(int64_t x, int64_t multiple) { return gpu::divide_up(x, multiple) * multiple; }
int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }

// At most `most`, a multiple of kTokensMultiple, in parts of about the same size.
int64_t tokens_at_once(int64_t num_tokens, int64_t most) {
  if (num_tokens == 0) return 0;
  const int64_t parts = gpu::divide_up(num_tokens, most);
  return std::min(num_tokens, round_up(gpu::divide_up(num_tokens, parts), kTokensMultiple));
}

// How the tokens are cut and where things lie in the workspace: functions of the shapes alone.
struct Chunks {
  int64_t num_tokens, width, vocabulary;
  int64_t ld;             // from row to row of logits and of their gradient: multiples of 16 bytes
  int64_t logits_tokens;  // whose logits are there at once
  int64_t grad_tokens;    // whose gradients of logits are
  int64_t logits_bytes = 0, grad_bytes = 0;

  Chunks(const TensorType& h, const Shape& w, bool with_grad)
      : num_tokens(h.shape.num_rows()), width(w[1]), vocabulary(w[0]), ld(round_up(w[0], kLogitsAtOnce)) {
    const bool bf16 = h.dtype == DType::kBF16;
    const int64_t most =
        std::clamp(kLogitsBytes / (4 * ld) / kTokensMultiple * kTokensMultiple, kTokensMultiple, kMaxLogitsTokens);
    grad_tokens = tokens_at_once(num_tokens, bf16 ? kGradTimes * most : most);
    logits_tokens = tokens_at_once(grad_tokens, most);
    logits_bytes = aligned(logits_tokens * ld * 4);
    grad_bytes = with_grad && bf16 ? aligned(grad_tokens * ld * 2) : 0;  // f32: in place
  }
  static constexpr int64_t kCountBytes = 64;
  int64_t workspace_bytes() const { return kCountBytes + logits_bytes + grad_bytes; }

  // Calls logits(first, count) for each product of logits and, behind those of its tokens, grads(first, count).
  template <class Logits, class Grads>
  void for_each(Logits logits, Grads grads) const {
    for (int64_t first = 0; first < num_tokens; first += grad_tokens) {
      const int64_t last = std::min(first + grad_tokens, num_tokens);
      for (int64_t at = first; at < last; at += logits_tokens) logits(at, std::min(logits_tokens, last - at));
      grads(first, last - first);
    }
  }
};

// One block: the targets of a microbatch are some hundred KB.
constexpr unsigned kOneBlockThreads = 1024;
__global__ void count_targets_kernel(const int32_t* targets, int64_t num_tokens, int64_t* num_targets) {
  constexpr int kSize = gpu::kPackSize<int32_t>;
  __shared__ int64_t scratch[32];
  int64_t count = 0;
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * kSize; at < num_tokens; at += kOneBlockThreads * kSize) {
    if (at + kSize <= num_tokens) {
      const auto pack = *reinterpret_cast<const gpu::Pack<int32_t, kSize>*>(targets + at);
      for (int i = 0; i < kSize; ++i) count += pack.elements[i] >= 0 ? 1 : 0;
    } else {
      for (int64_t i = at; i < num_tokens; ++i) count += targets[i] >= 0 ? 1 : 0;
    }
  }
  count = gpu::block_sum(count, scratch);
  if (threadIdx.x == 0) *num_targets = count;
}

// One block, in fp64: each thread's tokens in order, then the threads.
__global__ void mean_loss_kernel(const float* token_loss, int64_t num_tokens, const int64_t* num_targets, float* loss) {
  __shared__ double scratch[32];
  double sum = 0;
  for (int64_t at = threadIdx.x; at < num_tokens; at += kOneBlockThreads) sum += static_cast<double>(token_loss[at]);
  sum = gpu::block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = *num_targets == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(*num_targets));
}
gpu::Launch one_block(gpu::Stream stream) { return {.stream = stream, .grid = {1}, .block = {kOneBlockThreads}}; }

// The operands of either operation; those of the gradient are null in the other one.
struct Head {
  const CudaCall& call;
  const HeadCrossEntropyAttributes& op;
  const View& h;
  int w;  // input
  const View &targets, &loss, &token_loss;
  const View* num_targets;  // may be null
  const View *dloss, *dh, *dw;
  Chunks chunks;

  std::byte* logits() const { return call.workspace + Chunks::kCountBytes; }
  std::byte* dlogits() const { return grad_dtype_is_f32() ? logits() : logits() + chunks.logits_bytes; }
  bool grad_dtype_is_f32() const { return h.dtype == DType::kF32; }
  std::byte* h_row(int64_t token) const { return h.data + token * chunks.width * dtype_bytes(h.dtype); }
};

const std::byte* weights(const Head& head) {
  return weight_as(head.call, head.w, head.h.dtype, head.call.workspace + head.chunks.workspace_bytes());
}

const int64_t* num_targets(const Head& head) {
  if (head.num_targets) return head.num_targets->as<int64_t>();
  auto* count = reinterpret_cast<int64_t*>(head.call.workspace);
  gpu::launch(one_block(head.call.stream), count_targets_kernel, head.targets.as<int32_t>(), head.chunks.num_tokens,
              count);
  return count;
}

// Logits of `count` tokens into losses and, where that is asked, into their gradient at `dlogits`.
template <class T>
void lose_rows(const Head& head, int64_t first, int64_t count, const int64_t* counted, std::byte* dlogits) {
  const Chunks& chunks = head.chunks;
  const LogitRows rows = {.logits = reinterpret_cast<float*>(head.logits()),
                          .ld = chunks.ld,
                          .vocabulary = chunks.vocabulary,
                          .targets = head.targets.as<int32_t>() + first,
                          .token_loss = head.token_loss.as<float>() + first,
                          .softcap = static_cast<float>(head.op.softcap),
                          .scale = static_cast<float>(head.op.scale),
                          .dloss = head.dloss ? head.dloss->as<float>() : nullptr,
                          .num_targets = counted};
  const int64_t threads = std::min(kMostThreads, round_up(chunks.ld / kLogitsAtOnce, 32));
  const int64_t step_bytes = threads * kLogitsAtOnce * 4, steps = gpu::divide_up(chunks.ld, threads * kLogitsAtOnce);
  const int64_t kept_steps = head.dloss ? std::min(steps, kMostKeptBytes / step_bytes) : 0;
  const gpu::Launch launch = {.stream = head.call.stream,
                              .grid = {static_cast<unsigned>(count)},
                              .block = {static_cast<unsigned>(threads)},
                              .shared_bytes = kept_steps * step_bytes};
  const bool capped = head.op.softcap > 0;
  const auto kernel = head.dloss ? capped ? cross_entropy_kernel<T, true, true> : cross_entropy_kernel<T, false, true>
                      : capped ? cross_entropy_kernel<T, true, false>
                                 : cross_entropy_kernel<T, false, false>;
  gpu::launch(launch, kernel, rows, kept_steps, reinterpret_cast<T*>(dlogits));
}

Status prepare_head(CudaPrepare& prepare, int h, int w, bool with_grad) {
  const TensorType& hidden = prepare.shapes.input(h);
  const Chunks chunks(hidden, prepare.shapes.shape(w), with_grad);
  prepare.workspace_bytes = chunks.workspace_bytes() + prepare_weight(prepare, w, hidden.dtype);
  std::vector<gpu::GemmSpec> products;
  chunks.for_each(
      [&](int64_t, int64_t count) {
        products.push_back({.m = count,
                            .n = chunks.vocabulary,
                            .k = chunks.width,
                            .operands = hidden.dtype,
                            .transpose_b = true,
                            .ld_d = chunks.ld});
      },
      [&](int64_t, int64_t count) {
        if (!with_grad) return;
        products.push_back({.m = count,
                            .n = chunks.width,
                            .k = chunks.vocabulary,
                            .operands = hidden.dtype,
                            .result = hidden.dtype,
                            .ld_a = chunks.ld});
        products.push_back({.m = chunks.vocabulary,
                            .n = chunks.width,
                            .k = count,
                            .operands = hidden.dtype,
                            .transpose_a = true,
                            .has_addend = true,
                            .ld_a = chunks.ld});
      });
  for (const gpu::GemmSpec& product : products) RETURN_IF_ERROR(prepare.gemm(product).status());
  return ok_status();
}

// Products in the order in which they were prepared.
void run_head(const Head& head) {
  const Chunks& chunks = head.chunks;
  const int64_t* counted = num_targets(head);
  const std::byte* w = weights(head);
  int product = 0;
  int64_t grads_first = 0;  // the token whose gradient of logits is dlogits()'s first row
  chunks.for_each(
      [&](int64_t first, int64_t count) {
        head.call.gemm(
            product++,
            {.a = head.h_row(first), .b = w, .d = head.logits(), .alpha = static_cast<float>(head.op.scale)});
        std::byte* dlogits = head.dlogits() + (first - grads_first) * chunks.ld * dtype_bytes(head.h.dtype);
        head.grad_dtype_is_f32() ? lose_rows<float>(head, first, count, counted, dlogits)
                                 : lose_rows<BFloat16>(head, first, count, counted, dlogits);
      },
      [&](int64_t first, int64_t count) {
        grads_first = first + count;
        if (!head.dloss) return;
        std::byte* dh = head.dh->data + first * chunks.width * dtype_bytes(head.h.dtype);
        head.call.gemm(product++, {.a = head.dlogits(), .b = w, .d = dh});
        head.call.gemm(product++,
                       {.a = head.dlogits(), .b = head.h_row(first), .d = head.dw->data, .addend = head.dw->data});
      });
  gpu::launch(one_block(head.call.stream), mean_loss_kernel, head.token_loss.as<float>(), chunks.num_tokens, counted,
              head.loss.as<float>());
}

}  // namespace

template <>
Status prepare_cuda(const HeadCrossEntropy&, CudaPrepare& prepare) {
  return prepare_head(prepare, HeadCrossEntropy::kH, HeadCrossEntropy::kW, /*with_grad=*/false);
}

template <>
void run_cuda(const HeadCrossEntropy& op, const CudaCall& call) {
  using F = HeadCrossEntropy;
  const View &h = call.input(F::kH), &w = call.input(F::kW);
  run_head({.call = call,
            .op = op,
            .h = h,
            .w = F::kW,
            .targets = call.input(F::kTargets),
            .loss = call.output(F::kLoss),
            .token_loss = call.output(F::kTokenLoss),
            .num_targets = call.has_input(F::kNumTargets) ? &call.input(F::kNumTargets) : nullptr,
            .dloss = nullptr,
            .dh = nullptr,
            .dw = nullptr,
            .chunks = Chunks({h.shape, h.dtype}, w.shape, /*with_grad=*/false)});
}

template <>
Status prepare_cuda(const HeadCrossEntropyGrad&, CudaPrepare& prepare) {
  return prepare_head(prepare, HeadCrossEntropyGrad::kH, HeadCrossEntropyGrad::kW, /*with_grad=*/true);
}

template <>
void run_cuda(const HeadCrossEntropyGrad& op, const CudaCall& call) {
  using G = HeadCrossEntropyGrad;
  const View &h = call.input(G::kH), &w = call.input(G::kW);
  run_head({.call = call,
            .op = op,
            .h = h,
            .w = G::kW,
            .targets = call.input(G::kTargets),
            .loss = call.output(G::kLoss),
            .token_loss = call.output(G::kTokenLoss),
            .num_targets = call.has_input(G::kNumTargets) ? &call.input(G::kNumTargets) : nullptr,
            .dloss = &call.input(G::kDloss),
            .dh = &call.output(G::kDh),
            .dw = &call.input(G::kDw),
            .chunks = Chunks({h.shape, h.dtype}, w.shape, /*with_grad=*/true)});
}

template <>
Status prepare_cuda(const CountTargets&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const CountTargets&, const CudaCall& call) {
  const View& targets = call.input(CountTargets::kTargets);
  gpu::launch(one_block(call.stream), count_targets_kernel, targets.as<int32_t>(), targets.num_elements(),
              call.output(CountTargets::kNumTargets).as<int64_t>());
}

}  // namespace colossus
