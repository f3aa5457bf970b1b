#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/row_blocks.h"
#include "device/cpu/simd.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm/rms_norm_simd.h"

namespace colossus {
namespace {

template <class T>
const RmsNormKernels<T>& kernels() {
  return select_isa(rms_norm_kernels<Avx512, T>(), rms_norm_kernels<Avx2, T>());
}

// As rows of what one norm is over.
View as_norms(View x, int64_t width) {
  x.shape = Shape{x.shape.num_elements() / width, width};
  return x;
}

}  // namespace

template <>
void prepare_cpu(const RmsNorm&, CpuPrepare&) {}

template <>
void run_cpu(const RmsNorm& op, const CpuCall& call) {
  using N = RmsNorm;
  const int64_t width = call.input(N::kScale).shape[0];
  const View x = as_norms(call.input(N::kX), width);
  for_row_ranges(call.pool, x, [&]<class T>(int64_t begin, int64_t end) {
    kernels<T>().forward({
        .x = row_elements<T>(x, begin),
        .scale = elements<float>(call.input(N::kScale)),
        .addend = call.has_input(N::kAddend) ? elements<T>(call.input(N::kAddend), begin * width) : nullptr,
        .y = elements<T>(call.output(N::kY), begin * width),
        .rstd = elements<float>(call.output(N::kRstd), begin),
        .rows = end - begin,
        .width = width,
        .eps = static_cast<float>(op.eps),
    });
  });
}

// Workspace: the blocks' sums of dscale, (num_blocks, width).
template <>
void prepare_cpu(const RmsNormGrad&, CpuPrepare& prepare) {
  const int64_t width = prepare.shapes.shape(RmsNormGrad::kScale)[0];
  const int64_t num_norms = prepare.shapes.shape(RmsNormGrad::kX).num_elements() / width;
  if (prepare.shapes.has_input(RmsNormGrad::kDscale))
    prepare.workspace_bytes = RowBlocks(num_norms).partial_bytes(1, width);
}

template <>
void run_cpu(const RmsNormGrad&, const CpuCall& call) {
  using N = RmsNormGrad;
  const int64_t width = call.input(N::kScale).shape[0];
  const View x = as_norms(call.input(N::kX), width);
  const RowBlocks blocks(x.shape.num_rows());
  float* partial = call.has_input(N::kDscale) ? reinterpret_cast<float*>(call.workspace) : nullptr;
  visit_elements(x.dtype, [&]<class T>() {
    for_each_block(call.pool, blocks, [&](int64_t block, int64_t begin, int64_t end) {
      kernels<T>().grad({
          .dy = elements<T>(call.input(N::kDy), begin * width),
          .x = row_elements<T>(x, begin),
          .scale = elements<float>(call.input(N::kScale)),
          .rstd = elements<float>(call.input(N::kRstd), begin),
          .addend = call.has_input(N::kAddend) ? elements<T>(call.input(N::kAddend), begin * width) : nullptr,
          .dx = elements<T>(call.output(N::kDx), begin * width),
          .dscale = partial ? partial + block * width : nullptr,
          .rows = end - begin,
          .width = width,
      });
    });
  });
  if (partial) add_blocks(call.pool, partial, blocks.num_blocks, width, elements<float>(call.input(N::kDscale)));
}

}  // namespace colossus
