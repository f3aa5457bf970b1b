#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/row_blocks.h"
#include "device/cpu/simd.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/layer_norm_simd.h"

namespace colossus {
namespace {

template <class T>
const LayerNormKernels<T>& kernels() {
  return select_isa(layer_norm_kernels<Avx512, T>(), layer_norm_kernels<Avx2, T>());
}

}  // namespace

template <>
void prepare_cpu(const LayerNorm&, CpuPrepare&) {}

template <>
void run_cpu(const LayerNorm& op, const CpuCall& call) {
  using N = LayerNorm;
  const View& x = call.input(N::kX);
  for_row_ranges(call.pool, x, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().forward({
        .x = row_elements<T>(x, begin),
        .scale = elements<float>(call.input(N::kScale)),
        .bias = call.has_input(N::kBias) ? elements<float>(call.input(N::kBias)) : nullptr,
        .y = row_elements<T>(call.output(N::kY), begin),
        .mean = elements<float>(call.output(N::kMean), begin),
        .rstd = elements<float>(call.output(N::kRstd), begin),
        .rows = end - begin,
        .width = x.shape.row_size(),
        .eps = static_cast<float>(op.eps),
    });
  });
}

// Workspace: the blocks' sums of dscale, (num_blocks, width), then those of dbias.
template <>
void prepare_cpu(const LayerNormGrad&, CpuPrepare& prepare) {
  using N = LayerNormGrad;
  const Shape& x = prepare.shapes.shape(N::kX);
  if (prepare.shapes.has_input(N::kDscale) || prepare.shapes.has_input(N::kDbias))
    prepare.workspace_bytes = RowBlocks(x.num_rows()).partial_bytes(2, x.row_size());
}

template <>
void run_cpu(const LayerNormGrad&, const CpuCall& call) {
  using N = LayerNormGrad;
  const View& x = call.input(N::kX);
  const int64_t width = x.shape.row_size();
  const RowBlocks blocks(x.shape.num_rows());
  const bool sums = call.has_input(N::kDscale) || call.has_input(N::kDbias);
  float* dscale = sums ? reinterpret_cast<float*>(call.workspace) : nullptr;
  float* dbias = sums ? dscale + blocks.num_blocks * width : nullptr;
  visit_elements(x.dtype, [&]<class T>() {
    for_each_block(call.pool, blocks, [&](int64_t block, int64_t begin, int64_t end) {
      kernels<T>().grad({
          .dy = row_elements<T>(call.input(N::kDy), begin),
          .x = row_elements<T>(x, begin),
          .scale = elements<float>(call.input(N::kScale)),
          .mean = elements<float>(call.input(N::kMean), begin),
          .rstd = elements<float>(call.input(N::kRstd), begin),
          .addend = call.has_input(N::kAddend) ? row_elements<T>(call.input(N::kAddend), begin) : nullptr,
          .dx = row_elements<T>(call.output(N::kDx), begin),
          .dscale = sums ? dscale + block * width : nullptr,
          .dbias = sums ? dbias + block * width : nullptr,
          .rows = end - begin,
          .width = width,
      });
    });
  });
  const auto add_into = [&](int operand, const float* partial) {
    if (call.has_input(operand))
      add_blocks(call.pool, partial, blocks.num_blocks, width, elements<float>(call.input(operand)));
  };
  add_into(N::kDscale, dscale);
  add_into(N::kDbias, dbias);
}

}  // namespace colossus
