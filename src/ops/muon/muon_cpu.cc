// X is never transposed: with rows > cols the Gram matrix is X^T X and the polynomial multiplies from the right, which
// is the same iteration (X p(X^T X) = p(X X^T) X) with the small side squared. Products in fp32; bf16 ones, where the
// processor has them, would be GemmArgs::compute in multiply().
#include <algorithm>
#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/gemm/gemm.h"
#include "device/cpu/simd.h"
#include "ops/grad_norm/grad_norm.h"
#include "ops/grad_norm/grad_norm_simd.h"
#include "ops/muon/muon.h"
#include "ops/muon/muon_simd.h"

namespace colossus {
namespace {

constexpr int64_t kGrain = 1024;

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Workspace {
  int64_t rows, cols, side;
  int64_t matrix_bytes, square_bytes, sums_bytes;

  explicit Workspace(const Shape& shape)
      : rows(shape[-2]),
        cols(shape[-1]),
        side(std::min(rows, cols)),
        matrix_bytes(aligned(4 * rows * cols)),
        square_bytes(aligned(4 * side * side)),
        sums_bytes(aligned(8 * num_blocks())) {}

  int64_t size() const { return rows * cols; }
  int64_t num_blocks() const { return (size() + kSumOfSquaresBlock - 1) / kSumOfSquaresBlock; }
  int64_t num_bytes(int64_t num_threads) const {
    return 2 * matrix_bytes + 2 * square_bytes + sums_bytes + num_threads * gemm_workspace_bytes();
  }
};

class MuonRun {
 public:
  MuonRun(const Muon& op, const CpuCall& call)
      : op_(op),
        call_(call),
        kernels_(select_isa(muon_kernels<Avx512>(), muon_kernels<Avx2>())),
        work_(call.input(Muon::kDirection).shape) {
    x_ = reinterpret_cast<float*>(call.workspace);
    next_ = reinterpret_cast<float*>(call.workspace + work_.matrix_bytes);
    gram_ = reinterpret_cast<float*>(call.workspace + 2 * work_.matrix_bytes);
    polynomial_ = reinterpret_cast<float*>(call.workspace + 2 * work_.matrix_bytes + work_.square_bytes);
    std::byte* rest = call.workspace + 2 * work_.matrix_bytes + 2 * work_.square_bytes;
    sums_ = reinterpret_cast<double*>(rest);
    gemm_ = rest + work_.sums_bytes;
  }

  // One matrix: number `index` of the parameter's.
  void run(int64_t index, double lr) {
    const float* direction = call_.input(Muon::kDirection).as<float>() + index * work_.size();
    std::copy_n(direction, work_.size(), x_);
    const auto shrink = static_cast<float>(1 / (norm() + 1e-7));
    for_elements(work_.size(),
                 [&](int64_t begin, int64_t count) { kernels_.scale(x_ + begin, shrink, x_ + begin, count); });
    for (int64_t i = 0; i < op_.iterations; ++i) iterate();
    const double wide = static_cast<double>(work_.cols) / static_cast<double>(work_.rows);
    const auto step = static_cast<float>(lr * std::sqrt(std::max(1.0, wide)));
    const auto kept = static_cast<float>(1 - lr * op_.weight_decay);
    const int64_t part_size = work_.size() / op_.parts;
    float* param = call_.input(Muon::kParam).as<float>() + index * part_size;
    if (!op_.of_columns || op_.parts == 1) {
      const float* own = x_ + op_.part * part_size;
      for_elements(part_size, [&](int64_t begin, int64_t count) {
        kernels_.update(own + begin, step, kept, param + begin, count);
      });
      return;
    }
    const int64_t cols = work_.cols / op_.parts;
    call_.pool.parallel_for(work_.rows, std::max<int64_t>(1, kGrain / cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        kernels_.update(x_ + row * work_.cols + op_.part * cols, step, kept, param + row * cols, cols);
    });
  }

 private:
  template <class Work>
  void for_elements(int64_t count, Work work) {
    call_.pool.parallel_for(count, kGrain, [&](int64_t begin, int64_t end) { work(begin, end - begin); });
  }

  double norm() {
    const GradNormKernels& sums = select_isa(grad_norm_kernels<Avx512>(), grad_norm_kernels<Avx2>());
    call_.pool.parallel_for(work_.num_blocks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t at = block * kSumOfSquaresBlock;
        sums_[block] = sums.sum_of_squares(x_ + at, std::min(kSumOfSquaresBlock, work_.size() - at));
      }
    });
    double total = 0;
    for (int64_t block = 0; block < work_.num_blocks(); ++block) total += sums_[block];
    return std::sqrt(total);
  }

  // x = (a I + b A + c A^2) x, from the left or the right.
  void iterate() {
    constexpr float a = 3.4445F, b = -4.7750F, c = 2.0315F;
    const bool tall = work_.rows > work_.cols;
    const int64_t side = work_.side;
    const MatrixRef x = {.data = x_, .ld = work_.cols},
                    x_transposed = {.data = x_, .ld = work_.cols, .transposed = true};
    const MatrixRef gram = {.data = gram_, .ld = side}, polynomial = {.data = polynomial_, .ld = side};
    multiply({.m = side,
              .n = side,
              .k = std::max(work_.rows, work_.cols),
              .a = tall ? x_transposed : x,
              .b = tall ? x : x_transposed,
              .c = gram_,
              .ldc = side});
    for_elements(side * side,
                 [&](int64_t begin, int64_t count) { kernels_.scale(gram_ + begin, b, polynomial_ + begin, count); });
    for (int64_t i = 0; i < side; ++i) polynomial_[i * side + i] += a;
    multiply({.m = side,
              .n = side,
              .k = side,
              .a = gram,
              .b = gram,
              .c = polynomial_,
              .ldc = side,
              .accumulate = true,
              .alpha = c});
    multiply({.m = work_.rows,
              .n = work_.cols,
              .k = side,
              .a = tall ? x : polynomial,
              .b = tall ? polynomial : x,
              .c = next_,
              .ldc = work_.cols});
    std::swap(x_, next_);
  }

  void multiply(const GemmArgs& args) { gemm(args, call_.pool, gemm_); }

  const Muon& op_;
  const CpuCall& call_;
  const MuonKernels& kernels_;
  const Workspace work_;
  float *x_, *next_;           // (rows, cols)
  float *gram_, *polynomial_;  // (side, side)
  double* sums_;
  std::byte* gemm_;
};

}  // namespace

template <>
void prepare_cpu(const MuonMomentum&, CpuPrepare&) {}

template <>
void run_cpu(const MuonMomentum& op, const CpuCall& call) {
  const View &grad = call.input(MuonMomentum::kGrad), &direction = call.output(MuonMomentum::kDirection);
  CHECK(grad.dtype == DType::kF32, "fp64 programs run on reference kernels");
  const float scale = *call.input(MuonMomentum::kScale).as<float>();
  const MuonKernels& kernels = select_isa(muon_kernels<Avx512>(), muon_kernels<Avx2>());
  float* buffer = call.input(MuonMomentum::kMomentumBuffer).as<float>();
  call.pool.parallel_for(grad.num_elements(), kGrain, [&](int64_t begin, int64_t end) {
    if (std::isnan(scale))
      std::fill(direction.as<float>() + begin, direction.as<float>() + end, 0.0F);
    else
      kernels.momentum(grad.as<float>() + begin, scale, static_cast<float>(op.momentum), buffer + begin,
                       direction.as<float>() + begin, end - begin);
  });
}

template <>
void prepare_cpu(const Muon&, CpuPrepare& prepare) {
  prepare.workspace_bytes = Workspace(prepare.shapes.shape(Muon::kDirection)).num_bytes(prepare.num_threads);
}

template <>
void run_cpu(const Muon& op, const CpuCall& call) {
  const View& direction = call.input(Muon::kDirection);
  CHECK(direction.dtype == DType::kF32, "fp64 programs run on reference kernels");
  if (std::isnan(*call.input(Muon::kScale).as<float>())) return;
  MuonRun run(op, call);
  const int64_t count = direction.num_elements() / (direction.shape[-2] * direction.shape[-1]);
  for (int64_t index = 0; index < count; ++index) run.run(index, *call.input(Muon::kLr).as<float>());
}

}  // namespace colossus
