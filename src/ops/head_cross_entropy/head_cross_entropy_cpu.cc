#include <algorithm>
#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/gemm/gemm.h"
#include "device/cpu/simd.h"
#include "ops/head_cross_entropy/head_cross_entropy.h"
#include "ops/head_cross_entropy/head_cross_entropy_simd.h"

namespace colossus {
namespace {

// The logits of a block of tokens take at most about this much memory. A larger block reads the weights and adds into
// their gradient less often; a smaller one stays nearer to the processor between its three products.
constexpr int64_t kLogitsBytes = 64 << 20;
constexpr int64_t kMinBlockTokens = 32;
constexpr int64_t kMaxBlockTokens = 512;

const HeadCrossEntropyKernels& kernels() {
  return select_isa(head_cross_entropy_kernels<Avx512>(), head_cross_entropy_kernels<Avx2>());
}

int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// How logits are cut: a function of the shapes alone, so that sums do not depend on the number of threads.
struct Blocks {
  int64_t num_tokens, width, vocabulary;
  int64_t
      logits_ld;  // floats: whole cache lines, an odd number of them, so that a column spreads over the cache's sets
  int64_t block_tokens;

  Blocks(const Shape& h, const Shape& w)
      : num_tokens(h.num_rows()), width(w[1]), vocabulary(w[0]), logits_ld((round_up(w[0], 16) / 16 | 1) * 16) {
    const int64_t most = std::clamp(kLogitsBytes / (logits_ld * 4), kMinBlockTokens, kMaxBlockTokens);
    const int64_t num_blocks = std::max<int64_t>(1, (num_tokens + most - 1) / most);
    block_tokens = round_up((num_tokens + num_blocks - 1) / num_blocks, kMinBlockTokens);
  }
  int64_t logits_bytes() const { return block_tokens * logits_ld * 4; }
};

// The operands of either op.
struct Head {
  const CpuCall& call;
  const View& h;
  const View& w;
  const int32_t* targets;
  float* token_loss;
  double scale;
  float softcap;
  const Blocks blocks;

  float* logits() const { return reinterpret_cast<float*>(call.workspace); }
  std::byte* gemm_workspace() const { return call.workspace + blocks.logits_bytes(); }
  std::byte* h_row(int64_t token) const { return h.data + token * blocks.width * dtype_bytes(h.dtype); }
  MatrixRef dlogits(bool transposed) const {  // bf16 lies in the front half of each row's memory
    const int64_t ld = h.dtype == DType::kBF16 ? 2 * blocks.logits_ld : blocks.logits_ld;
    return {.data = logits(), .ld = ld, .dtype = h.dtype, .transposed = transposed};
  }
};

// What the mean is over.
int64_t count_targets(const Head& head, int num_targets) {
  int64_t count = 0;
  for (int64_t n = 0; n < head.blocks.num_tokens; ++n) {
    CHECK(head.targets[n] < head.blocks.vocabulary, "head_cross_entropy.targets: a target lies beyond the vocabulary");
    count += head.targets[n] >= 0;
  }
  return head.call.has_input(num_targets) ? *head.call.input(num_targets).as<int64_t>() : count;
}

float mean_loss(const Head& head, int64_t num_counted) {
  double sum = 0;
  for (int64_t n = 0; n < head.blocks.num_tokens; ++n) sum += static_cast<double>(head.token_loss[n]);
  return num_counted == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(num_counted));
}

// logits = scale * h @ w^T of tokens first .. first + count. Slot 0 is the packed w^T.
void multiply_logits(const Head& head, int64_t first, int64_t count) {
  const Blocks& blocks = head.blocks;
  gemm({.m = count,
        .n = blocks.vocabulary,
        .k = blocks.width,
        .a = {.data = head.h_row(first), .ld = blocks.width, .dtype = head.h.dtype},
        .packed_b = {.data = head.call.packed(0), .k = blocks.width, .n = blocks.vocabulary, .dtype = head.h.dtype},
        .b = {.data = head.w.data, .ld = blocks.width, .dtype = head.w.dtype, .transposed = true},
        .compute = head.h.dtype,
        .c = head.logits(),
        .ldc = blocks.logits_ld,
        .alpha = static_cast<float>(head.scale)},
       head.call.pool, head.gemm_workspace());
}

// Turns the block's logits into losses and, with `dloss` (the factor of each counted token's loss), into their
// gradient.
void lose_rows(const Head& head, int64_t first, int64_t count, const float* dloss) {
  const Blocks& blocks = head.blocks;
  const bool bf16 = head.h.dtype == DType::kBF16;
  head.call.pool.parallel_for(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const LogitsRow row{head.logits() + i * blocks.logits_ld, blocks.vocabulary, head.targets[first + i],
                          head.softcap};
      float& loss = head.token_loss[first + i];
      if (row.target < 0) {
        loss = 0;
        if (dloss) std::memset(row.logits, 0, static_cast<size_t>(blocks.vocabulary * dtype_bytes(head.h.dtype)));
      } else if (!dloss) {
        loss = kernels().loss(row);
      } else {
        loss = bf16 ? kernels().loss_and_grad_bf16(row, *dloss) : kernels().loss_and_grad_f32(row, *dloss);
      }
    }
  });
}

// dh = dlogits @ w. Slot 1 is the packed w.
void multiply_dh(const Head& head, const View& dh, int64_t first, int64_t count) {
  const Blocks& blocks = head.blocks;
  gemm({.m = count,
        .n = blocks.width,
        .k = blocks.vocabulary,
        .a = head.dlogits(/*transposed=*/false),
        .packed_b = {.data = head.call.packed(1), .k = blocks.vocabulary, .n = blocks.width, .dtype = head.h.dtype},
        .b = {.data = head.w.data, .ld = blocks.width, .dtype = head.w.dtype},
        .compute = head.h.dtype,
        .c = dh.data + first * blocks.width * dtype_bytes(dh.dtype),
        .ldc = blocks.width,
        .c_dtype = dh.dtype},
       head.call.pool, head.gemm_workspace());
}

// dw += dlogits^T @ h.
void add_dw(const Head& head, const View& dw, int64_t first, int64_t count) {
  const Blocks& blocks = head.blocks;
  gemm({.m = blocks.vocabulary,
        .n = blocks.width,
        .k = count,
        .a = head.dlogits(/*transposed=*/true),
        .packed_b = {},
        .b = {.data = head.h_row(first), .ld = blocks.width, .dtype = head.h.dtype},
        .compute = head.h.dtype,
        .c = dw.data,
        .ldc = blocks.width,
        .accumulate = true},
       head.call.pool, head.gemm_workspace());
}

void prepare_head(CpuPrepare& prepare, int h, int w, bool with_grad) {
  const Shape& weights = prepare.shapes.shape(w);
  const Blocks blocks(prepare.shapes.shape(h), weights);
  const DType dtype = prepare.shapes.input(h).dtype;
  prepare.workspace_bytes = blocks.logits_bytes() + prepare.num_threads * gemm_workspace_bytes();
  prepare.pack({.input = w, .k = weights[1], .n = weights[0], .transposed = true, .dtype = dtype});
  if (with_grad) prepare.pack({.input = w, .k = weights[0], .n = weights[1], .dtype = dtype});
}

}  // namespace

template <>
void prepare_cpu(const HeadCrossEntropy&, CpuPrepare& prepare) {
  prepare_head(prepare, HeadCrossEntropy::kH, HeadCrossEntropy::kW, /*with_grad=*/false);
}

template <>
void run_cpu(const HeadCrossEntropy& op, const CpuCall& call) {
  using F = HeadCrossEntropy;
  const View& h = call.input(F::kH);
  const View& w = call.input(F::kW);
  CHECK(h.dtype != DType::kF64, "head_cross_entropy: fp64 programs run on reference kernels");
  const Head head{call,
                  h,
                  w,
                  call.input(F::kTargets).as<int32_t>(),
                  call.output(F::kTokenLoss).as<float>(),
                  op.scale,
                  static_cast<float>(op.softcap),
                  Blocks(h.shape, w.shape)};
  const int64_t num_counted = count_targets(head, F::kNumTargets);
  for (int64_t first = 0; first < head.blocks.num_tokens; first += head.blocks.block_tokens) {
    const int64_t count = std::min(head.blocks.block_tokens, head.blocks.num_tokens - first);
    multiply_logits(head, first, count);
    lose_rows(head, first, count, nullptr);
  }
  *call.output(F::kLoss).as<float>() = mean_loss(head, num_counted);
}

template <>
void prepare_cpu(const HeadCrossEntropyGrad&, CpuPrepare& prepare) {
  prepare_head(prepare, HeadCrossEntropyGrad::kH, HeadCrossEntropyGrad::kW, /*with_grad=*/true);
}

template <>
void run_cpu(const HeadCrossEntropyGrad& op, const CpuCall& call) {
  using G = HeadCrossEntropyGrad;
  const View& h = call.input(G::kH);
  const View& w = call.input(G::kW);
  CHECK(h.dtype != DType::kF64, "head_cross_entropy_grad: fp64 programs run on reference kernels");
  const Head head{call,
                  h,
                  w,
                  call.input(G::kTargets).as<int32_t>(),
                  call.output(G::kTokenLoss).as<float>(),
                  op.scale,
                  static_cast<float>(op.softcap),
                  Blocks(h.shape, w.shape)};
  const int64_t num_counted = count_targets(head, G::kNumTargets);
  const double dloss = *call.input(G::kDloss).as<float>();
  const auto factor = static_cast<float>(dloss * op.scale / static_cast<double>(std::max<int64_t>(1, num_counted)));
  for (int64_t first = 0; first < head.blocks.num_tokens; first += head.blocks.block_tokens) {
    const int64_t count = std::min(head.blocks.block_tokens, head.blocks.num_tokens - first);
    multiply_logits(head, first, count);
    lose_rows(head, first, count, &factor);
    multiply_dh(head, call.output(G::kDh), first, count);
    add_dw(head, call.input(G::kDw), first, count);
  }
  *call.output(G::kLoss).as<float>() = mean_loss(head, num_counted);
}

template <>
void prepare_cpu(const CountTargets&, CpuPrepare&) {}

template <>
void run_cpu(const CountTargets&, const CpuCall& call) {
  const View& targets = call.input(CountTargets::kTargets);
  const int32_t* first = targets.as<int32_t>();
  *call.output(CountTargets::kNumTargets).as<int64_t>() =
      std::count_if(first, first + targets.num_elements(), [](int32_t target) { return target >= 0; });
}

}  // namespace colossus
