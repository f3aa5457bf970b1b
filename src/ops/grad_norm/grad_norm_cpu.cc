#include <algorithm>
#include <cmath>
#include <limits>

#include "base/exact_sum.h"
#include "device/cpu/cpu_kernel.h"
#include "device/cpu/simd.h"
#include "ops/grad_norm/grad_norm.h"
#include "ops/grad_norm/grad_norm_simd.h"

namespace colossus {
namespace {

int64_t num_blocks(int64_t num_elements) { return (num_elements + kSumOfSquaresBlock - 1) / kSumOfSquaresBlock; }

}  // namespace

template <>
void prepare_cpu(const SumOfSquares&, CpuPrepare& prepare) {
  prepare.workspace_bytes = prepare.num_threads * static_cast<int64_t>(sizeof(ExactSum));
}

template <>
void run_cpu(const SumOfSquares&, const CpuCall& call) {
  CHECK(call.input(SumOfSquares::kGrads).dtype == DType::kF32, "fp64 programs run on reference kernels");
  const GradNormKernels& kernels = select_isa(grad_norm_kernels<Avx512>(), grad_norm_kernels<Avx2>());
  auto* sums = reinterpret_cast<ExactSum*>(call.workspace);  // of each thread
  int64_t total_blocks = 0;
  for (int i = 0; i < call.num_inputs(); ++i) total_blocks += num_blocks(call.input(i).num_elements());
  const int64_t num_threads = call.pool.num_threads();
  // Blocks are numbered through all tensors: one fork for hundreds of small ones.
  call.pool.run([&](int part) {
    const int64_t begin = total_blocks * part / num_threads, end = total_blocks * (part + 1) / num_threads;
    ExactSum sum;
    int64_t first = 0;  // block of tensor i
    for (int i = 0; i < call.num_inputs() && first < end; ++i) {
      const View& grad = call.input(i);
      const int64_t count = grad.num_elements(), blocks = num_blocks(count);
      for (int64_t block = std::max(begin - first, int64_t{0}); block < std::min(end - first, blocks); ++block) {
        const int64_t at = block * kSumOfSquaresBlock;
        sum.add(kernels.sum_of_squares(grad.as<float>() + at, std::min(kSumOfSquaresBlock, count - at)));
      }
      first += blocks;
    }
    sums[part] = sum;
  });
  ExactSum total;
  for (int64_t part = 0; part < num_threads; ++part) total.add(sums[part]);
  std::ranges::copy(total.words(), call.output(SumOfSquares::kSum).as<int64_t>());
}

template <>
void prepare_cpu(const ExactSumValue&, CpuPrepare&) {}

template <>
void run_cpu(const ExactSumValue& op, const CpuCall& call) {
  CHECK(call.output(ExactSumValue::kValue).dtype == DType::kF32, "fp64 programs run on reference kernels");
  ExactSum::Words words;
  std::copy_n(call.input(ExactSumValue::kSum).as<int64_t>(), words.size(), words.begin());
  const double value = op.scale * ExactSum(words).value();
  *call.output(ExactSumValue::kValue).as<float>() = static_cast<float>(op.square_root ? std::sqrt(value) : value);
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
