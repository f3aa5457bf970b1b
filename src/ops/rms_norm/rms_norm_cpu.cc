#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/row_blocks.h"
#include "device/cpu/simd.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm/rms_norm_simd.h"

namespace colossus {
namespace {

// Elements below which a second thread costs more than it helps.
constexpr int64_t kGrainElements = 8192;

template <class T>
const RmsNormKernels<T>& kernels() {
  return select_isa(rms_norm_kernels<Avx512, T>(), rms_norm_kernels<Avx2, T>());
}

template <class T>
T* row_of(const View& view, int64_t row, int64_t width) {
  return elements<T>(view) + row * width;
}

}  // namespace

template <>
void prepare_cpu(const RmsNorm&, CpuPrepare&) {}

template <>
void run_cpu(const RmsNorm& op, const CpuCall& call) {
  using N = RmsNorm;
  const View& x = call.input(N::kX);
  const int64_t width = x.shape.row_size(), grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, width));
  visit_elements(x.dtype, [&]<class T>() {
    call.pool.parallel_for(x.shape.num_rows(), grain, [&](int64_t begin, int64_t end) {
      kernels<T>().forward({
          .x = row_of<T>(x, begin, width),
          .scale = elements<float>(call.input(N::kScale)),
          .addend = call.has_input(N::kAddend) ? row_of<T>(call.input(N::kAddend), begin, width) : nullptr,
          .y = row_of<T>(call.output(N::kY), begin, width),
          .rstd = elements<float>(call.output(N::kRstd)) + begin,
          .rows = end - begin,
          .width = width,
          .eps = static_cast<float>(op.eps),
      });
    });
  });
}

// Workspace: the blocks' sums of dscale, (num_blocks, width).
template <>
void prepare_cpu(const RmsNormGrad&, CpuPrepare& prepare) {
  const Shape& x = prepare.shapes.shape(RmsNormGrad::kX);
  if (prepare.shapes.has_input(RmsNormGrad::kDscale))
    prepare.workspace_bytes = RowBlocks(x.num_rows()).num_blocks * x.row_size() * int64_t{sizeof(float)};
}

template <>
void run_cpu(const RmsNormGrad&, const CpuCall& call) {
  using N = RmsNormGrad;
  const View& x = call.input(N::kX);
  const int64_t width = x.shape.row_size();
  const RowBlocks blocks(x.shape.num_rows());
  float* partial = call.has_input(N::kDscale) ? reinterpret_cast<float*>(call.workspace) : nullptr;
  visit_elements(x.dtype, [&]<class T>() {
    call.pool.parallel_for(blocks.num_blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t begin = blocks.begin(block);
        kernels<T>().grad({
            .dy = row_of<T>(call.input(N::kDy), begin, width),
            .x = row_of<T>(x, begin, width),
            .scale = elements<float>(call.input(N::kScale)),
            .rstd = elements<float>(call.input(N::kRstd)) + begin,
            .addend = call.has_input(N::kAddend) ? row_of<T>(call.input(N::kAddend), begin, width) : nullptr,
            .dx = row_of<T>(call.output(N::kDx), begin, width),
            .dscale = partial ? partial + block * width : nullptr,
            .rows = blocks.end(block) - begin,
            .width = width,
        });
      }
    });
  });
  if (partial) add_blocks(call.pool, partial, blocks.num_blocks, width, elements<float>(call.input(N::kDscale)));
}

}  // namespace colossus
