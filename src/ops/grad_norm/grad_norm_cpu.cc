#include <algorithm>
#include <cmath>
#include <limits>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/grad_norm/grad_norm.h"
#include "ops/grad_norm/grad_norm_simd.h"

namespace colossus {
namespace {

int64_t num_blocks(int64_t num_elements) { return (num_elements + kSumOfSquaresBlock - 1) / kSumOfSquaresBlock; }

}  // namespace

template <>
void prepare_cpu(const GradNorm&, CpuPrepare& prepare) {
  int64_t blocks = 0;
  for (int i = 0; i < prepare.shapes.num_inputs(); ++i) blocks += num_blocks(prepare.shapes.shape(i).num_elements());
  prepare.workspace_bytes = blocks * static_cast<int64_t>(sizeof(double));
}

template <>
void run_cpu(const GradNorm&, const CpuCall& call) {
  CHECK(call.output(GradNorm::kNorm).dtype == DType::kF32, "fp64 programs run on reference kernels");
  const GradNormKernels& kernels = select_isa(grad_norm_kernels<Avx512>(), grad_norm_kernels<Avx2>());
  auto* sums = reinterpret_cast<double*>(call.workspace);
  int64_t total_blocks = 0;
  for (int i = 0; i < call.num_inputs(); ++i) total_blocks += num_blocks(call.input(i).num_elements());
  // Blocks are numbered through all tensors: one fork for hundreds of small ones.
  call.pool.parallel_for(total_blocks, 1, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // block of tensor i
    for (int i = 0; i < call.num_inputs() && first < end; ++i) {
      const View& grad = call.input(i);
      const int64_t count = grad.num_elements(), blocks = num_blocks(count);
      for (int64_t block = std::max(begin - first, int64_t{0}); block < std::min(end - first, blocks); ++block) {
        const int64_t at = block * kSumOfSquaresBlock;
        sums[first + block] = kernels.sum_of_squares(grad.as<float>() + at, std::min(kSumOfSquaresBlock, count - at));
      }
      first += blocks;
    }
  });
  double total = 0;
  for (int i = 0; i < call.num_inputs(); ++i) {
    double of_tensor = 0;
    for (int64_t block = 0; block < num_blocks(call.input(i).num_elements()); ++block) of_tensor += *sums++;
    total += of_tensor;
  }
  *call.output(GradNorm::kNorm).as<float>() = static_cast<float>(std::sqrt(total));
}

template <>
void prepare_cpu(const ClipScale&, CpuPrepare&) {}

template <>
void run_cpu(const ClipScale& op, const CpuCall& call) {
  CHECK(call.output(ClipScale::kScale).dtype == DType::kF32, "fp64 programs run on reference kernels");
  const double norm = *call.input(ClipScale::kNorm).as<float>();
  const bool finite = std::isfinite(norm) &&
                      (!call.has_input(ClipScale::kLoss) || std::isfinite(*call.input(ClipScale::kLoss).as<float>()));
  const double scale = op.max_norm == 0 ? 1.0 : std::min(1.0, op.max_norm / (norm + 1e-6));
  *call.output(ClipScale::kScale).as<float>() =
      finite ? static_cast<float>(scale) : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace colossus
