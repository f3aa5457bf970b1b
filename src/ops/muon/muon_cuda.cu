// X is never transposed, as in muon_cpu.cc. The CPU's products are fp32; here a matrix is the sum of two of bf16 (its
// rounding, and that of the rest), and a product is three of theirs in fp32: all but the product of the rests, which is
// 2^-18 of it. So numbers are good to about 2^-17 and the tensor cores, 15 times as fast as fp32 units, are used at a
// third of their speed. (One bf16 product for each, as Jordan et al. do it, is 3 times as fast again and good to 2^-8.)
#include <algorithm>
#include <array>
#include <cmath>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/grad_norm/grad_norm_cuda.h"
#include "ops/muon/muon.h"

namespace colossus {
namespace {

constexpr int kSize = gpu::kPackSize<float>;

// u and the buffer in one pass: 8 bytes an element read, 8 written.
__global__ void momentum_kernel(const float* grad, float* buffer, float* direction, const float* scale, float momentum,
                                int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  const float factor = *scale;
  const bool skipped = std::isnan(factor);
  const auto update = [&](float gradient, float& m) {
    const float g = factor * gradient;
    m = momentum * m + g;
    return g + momentum * m;
  };
  if (at + kSize <= num_elements) {
    float grads[kSize], buffers[kSize], directions[kSize] = {};
    gpu::load_floats(grad + at, grads);
    gpu::load_floats(buffer + at, buffers);
    if (!skipped) {
      for (int i = 0; i < kSize; ++i) directions[i] = update(grads[i], buffers[i]);
      gpu::store_floats(buffers, buffer + at);
    }
    gpu::store_floats(directions, direction + at);
    return;
  }
  for (int64_t i = at; i < num_elements; ++i) direction[i] = skipped ? 0 : update(grad[i], buffer[i]);
}

// Matrices of `size` elements each, blockIdx.y of them. Those of the workspace begin at multiples of 64 bytes.
constexpr int64_t kMatrixMultiple = 64;
int64_t padded(int64_t num_elements) { return gpu::divide_up(num_elements, kMatrixMultiple) * kMatrixMultiple; }
gpu::Launch matrices_launch(gpu::Stream stream, int64_t items, int64_t num_matrices) {
  gpu::Launch launch = gpu::array_launch(stream, items);
  launch.grid.y = static_cast<unsigned>(num_matrices);
  return launch;
}

// Squares of blocks of kSumOfSquaresBlock elements, (matrices, blocks), where matrices begin at multiples of 16 bytes,
// or else of one element at a time.
__global__ void block_squares_kernel(const float* matrices, int64_t size, int64_t num_blocks, double* sums) {
  const int64_t block = gpu::array_index() / gpu::kThreadsPerSquaresBlock, begin = block * kSumOfSquaresBlock;
  const int64_t left = block < num_blocks ? size - begin : 0;
  const int count = static_cast<int>(left < kSumOfSquaresBlock ? left : kSumOfSquaresBlock);
  const float* from = matrices + blockIdx.y * size + begin;
  double sum;
  if (size % kSize == 0) {
    sum = gpu::sum_of_squares(from, count);
  } else {
    sum = 0;
    for (int i = gpu::lane() % gpu::kThreadsPerSquaresBlock; i < count; i += gpu::kThreadsPerSquaresBlock)
      sum += static_cast<double>(from[i]) * static_cast<double>(from[i]);
    for (int threads = gpu::kThreadsPerSquaresBlock / 2; threads > 0; threads /= 2)
      sum += __shfl_xor_sync(kAllLanes, sum, threads);
  }
  if (count > 0 && gpu::lane() % gpu::kThreadsPerSquaresBlock == 0) sums[blockIdx.y * num_blocks + block] = sum;
}

// shrink = 1 / (|u| + 1e-7): a block for each matrix.
__global__ void shrink_kernel(const double* sums, int64_t num_blocks, float* shrink) {
  __shared__ double scratch[32];
  double sum = 0;
  for (int64_t block = threadIdx.x; block < num_blocks; block += blockDim.x)
    sum += sums[blockIdx.x * num_blocks + block];
  sum = gpu::block_sum(sum, scratch);
  if (threadIdx.x == 0) shrink[blockIdx.x] = static_cast<float>(1 / (sqrt(sum) + 1e-7));
}

// x = high + low, but for 2^-18 of it.
struct Halves {
  BFloat16 *high, *low;
};

__device__ __forceinline__ void store_halves(const float (&x)[kSize], Halves to, int64_t at, int count) {
  gpu::Pack<BFloat16, kSize> high, low;
  for (int i = 0; i < kSize; ++i) {
    high.elements[i] = gpu::rounded<BFloat16>(x[i]);
    low.elements[i] = gpu::rounded<BFloat16>(x[i] - gpu::float_of(high.elements[i]));
  }
  if (count == kSize) {
    *reinterpret_cast<gpu::Pack<BFloat16, kSize>*>(to.high + at) = high;
    *reinterpret_cast<gpu::Pack<BFloat16, kSize>*>(to.low + at) = low;
    return;
  }
  for (int i = 0; i < kSize; ++i)
    if (i < count) to.high[at + i] = high.elements[i], to.low[at + i] = low.elements[i];
}

// Halves of factor * x, 4 bytes an element read and 4 written; `factors` (by matrix) may be null. Where `gram` is asked
// for, x is the Gram matrix A and a I + b A takes its place: 4 bytes more. In `from` a matrix begins `from_step`
// elements after the other.
struct Split {
  const float* from;
  int64_t from_step;
  Halves to;
  int64_t to_step;
  const float* factors;
  float* polynomial;  // null, or `from`
  int64_t side;
};
__global__ void split_kernel(Split split, int64_t size) {
  constexpr float a = 3.4445F, b = -4.7750F;
  const int64_t at = gpu::array_index() * kSize;
  if (at >= size) return;
  const int count = at + kSize <= size ? kSize : static_cast<int>(size - at);
  const float* from = split.from + blockIdx.y * split.from_step;
  float x[kSize];
  if (count == kSize && split.from_step % kSize == 0) {
    gpu::load_floats(from + at, x);
  } else {
    for (int i = 0; i < kSize; ++i) x[i] = i < count ? from[at + i] : 0;
  }
  const float factor = split.factors ? split.factors[blockIdx.y] : 1;
  float scaled[kSize];
  for (int i = 0; i < kSize; ++i) scaled[i] = factor * x[i];
  store_halves(scaled, split.to, blockIdx.y * split.to_step + at, count);
  if (!split.polynomial) return;
  // The diagonal is every element whose number is a multiple of side + 1.
  int64_t behind = at % (split.side + 1);
  for (int i = 0; i < kSize; ++i) {
    x[i] = b * x[i] + (behind == 0 ? a : 0.0F);
    behind = behind == split.side ? 0 : behind + 1;
  }
  float* to = split.polynomial + blockIdx.y * split.from_step + at;
  if (count == kSize)
    gpu::store_floats(x, to);
  else
    for (int i = 0; i < kSize; ++i)
      if (i < count) to[i] = x[i];
}

// param = kept * param - step * o. Runs of `length` elements, `runs` of each matrix: the part of each row that this
// rank has, or all rows that it has as one. 4 bytes an element read of o, 8 read and written of param.
struct Update {
  float* param;
  const float* o;
  const float* factors;  // of o, by matrix; may be null
  const float *lr, *scale;
  float shape_scale, weight_decay;
  int64_t length, runs;
  int64_t matrix_step, run_step, first;  // in o: from matrix to matrix and from run to run; the first element
  unsigned blocks_of_run;
};
template <int kAtOnce>
__global__ void update_kernel(Update update) {
  const unsigned run = blockIdx.x / update.blocks_of_run, block = blockIdx.x % update.blocks_of_run;
  const int64_t at = (static_cast<int64_t>(block) * blockDim.x + threadIdx.x) * kAtOnce;
  if (at >= update.length || std::isnan(*update.scale)) return;
  const float factor = update.factors ? update.factors[blockIdx.y] : 1;
  const float step = *update.lr * update.shape_scale * factor, kept = 1 - *update.lr * update.weight_decay;
  float* param = update.param + (blockIdx.y * update.runs + run) * update.length + at;
  const float* o = update.o + blockIdx.y * update.matrix_step + update.first + run * update.run_step + at;
  float params[kAtOnce], moves[kAtOnce];
  gpu::load_floats(param, params);
  gpu::load_floats(o, moves);
  for (int i = 0; i < kAtOnce; ++i) params[i] = kept * params[i] - step * moves[i];
  gpu::store_floats(params, param);
}

// How many matrices are worked on at once: enough small ones to fill a GPU, and no more than have room here; a large
// one fills it alone.
constexpr int64_t kMostMatrices = 256;
constexpr int64_t kWorkspaceBytes = 1 << 30;

struct Work {
  int64_t rows, cols, side, count;  // of all matrices
  int64_t at_once;
  int64_t size, num_blocks;
  int64_t matrix_step, square_step;  // elements

  explicit Work(const Shape& direction)
      : rows(direction[-2]),
        cols(direction[-1]),
        side(std::min(rows, cols)),
        count(rows * cols == 0 ? 0 : direction.num_elements() / (rows * cols)),
        size(rows * cols),
        num_blocks(gpu::divide_up(size, kSumOfSquaresBlock)),
        matrix_step(padded(size)),
        square_step(padded(side * side)) {
    const int64_t most = std::clamp<int64_t>(kWorkspaceBytes / bytes_of(1), 1, kMostMatrices);
    at_once = count == 0 ? 0 : gpu::divide_up(count, gpu::divide_up(count, most));
  }
  // In this order: x, gram (fp32); the halves of either; sums of squares; shrink.
  int64_t sums_bytes(int64_t matrices) const { return padded(matrices * num_blocks) * 8; }
  int64_t bytes_of(int64_t matrices) const {
    return 8 * matrices * (matrix_step + square_step) + sums_bytes(matrices) + padded(matrices) * 4;
  }
  bool tall() const { return rows > cols; }
};

// Of each product that which is made first, and that which is added to it.
enum Product { kGram, kGramAdded, kSquareAdded, kMove, kMoveAdded, kNumProducts };
std::array<gpu::GemmSpec, kNumProducts> products_of(const Work& work, int64_t matrices) {
  const gpu::GemmSpec gram = {.m = work.side,
                              .n = work.side,
                              .k = std::max(work.rows, work.cols),
                              .operands = DType::kBF16,
                              .transpose_a = work.tall(),
                              .transpose_b = !work.tall(),
                              .batch = matrices,
                              .stride_a = work.matrix_step,
                              .stride_b = work.matrix_step,
                              .stride_d = work.square_step};
  const gpu::GemmSpec square = {.m = work.side,
                                .n = work.side,
                                .k = work.side,
                                .operands = DType::kBF16,
                                .has_addend = true,
                                .batch = matrices,
                                .stride_a = work.square_step,
                                .stride_b = work.square_step,
                                .stride_d = work.square_step};
  const gpu::GemmSpec move = {.m = work.rows,
                              .n = work.cols,
                              .k = work.side,
                              .operands = DType::kBF16,
                              .batch = matrices,
                              .stride_a = work.tall() ? work.matrix_step : work.square_step,
                              .stride_b = work.tall() ? work.square_step : work.matrix_step,
                              .stride_d = work.matrix_step};
  std::array<gpu::GemmSpec, kNumProducts> products = {gram, gram, square, move, move};
  products[kGramAdded].has_addend = products[kMoveAdded].has_addend = true;
  return products;
}

class MuonRun {
 public:
  MuonRun(const Muon& op, const CudaCall& call) : op_(op), call_(call), work_(call.input(Muon::kDirection).shape) {
    std::byte* at = call.workspace;
    const auto take = [&]<class T>(T*& array, int64_t count) {
      array = reinterpret_cast<T*>(at);
      at += count * static_cast<int64_t>(sizeof(T));
    };
    const int64_t matrices = work_.at_once;
    take(x_, matrices * work_.matrix_step);
    take(gram_, matrices * work_.square_step);
    take(x_halves_.high, matrices * work_.matrix_step);
    take(x_halves_.low, matrices * work_.matrix_step);
    take(gram_halves_.high, matrices * work_.square_step);
    take(gram_halves_.low, matrices * work_.square_step);
    take(sums_, padded(matrices * work_.num_blocks));
    take(shrink_, padded(matrices));
  }

  void run() {
    for (int64_t first = 0; first < work_.count; first += work_.at_once) {
      matrices_ = std::min(work_.at_once, work_.count - first);
      first_product_ = matrices_ == work_.at_once ? 0 : kNumProducts;
      run_matrices(first);
    }
  }

 private:
  void run_matrices(int64_t first) {
    const float* direction = call_.input(Muon::kDirection).as<float>() + first * work_.size;
    gpu::launch(matrices_launch(call_.stream, work_.num_blocks * gpu::kThreadsPerSquaresBlock, matrices_),
                block_squares_kernel, direction, work_.size, work_.num_blocks, sums_);
    gpu::launch({.stream = call_.stream, .grid = {static_cast<unsigned>(matrices_)}, .block = {gpu::kArrayThreads}},
                shrink_kernel, sums_, work_.num_blocks, shrink_);
    if (op_.iterations == 0) {
      update(first, direction, work_.size, shrink_);
      return;
    }
    split({.from = direction, .from_step = work_.size, .factors = shrink_}, x_halves_, work_.matrix_step, work_.size);
    for (int64_t i = 0; i < op_.iterations; ++i) {
      if (i > 0) split({.from = x_, .from_step = work_.matrix_step}, x_halves_, work_.matrix_step, work_.size);
      iterate();
    }
    update(first, x_, work_.matrix_step, nullptr);
  }

  // x = (a I + b A + c A^2) x, from the left or the right, from the halves of x.
  void iterate() {
    constexpr float c = 2.0315F;
    const int64_t square = work_.side * work_.side;
    const Split from_gram = {.from = gram_, .from_step = work_.square_step};
    multiply(kGram, kGramAdded, x_halves_, x_halves_, gram_, 1);
    Split with_polynomial = from_gram;
    with_polynomial.polynomial = gram_;
    split(with_polynomial, gram_halves_, work_.square_step, square);
    multiply(kSquareAdded, kSquareAdded, gram_halves_, gram_halves_, gram_, c);
    split(from_gram, gram_halves_, work_.square_step, square);
    multiply(kMove, kMoveAdded, work_.tall() ? x_halves_ : gram_halves_, work_.tall() ? gram_halves_ : x_halves_, x_,
             1);
  }

  void split(Split split, Halves to, int64_t to_step, int64_t size) const {
    split.to = to;
    split.to_step = to_step;
    split.side = work_.side;
    gpu::launch(matrices_launch(call_.stream, gpu::divide_up(size, kSize), matrices_), split_kernel, split, size);
  }

  void multiply(Product first, Product added, Halves a, Halves b, float* d, float alpha) const {
    const auto part = [&](Product product, const BFloat16* of_a, const BFloat16* of_b) {
      call_.gemm(first_product_ + product, {.a = reinterpret_cast<const std::byte*>(of_a),
                                            .b = reinterpret_cast<const std::byte*>(of_b),
                                            .d = reinterpret_cast<std::byte*>(d),
                                            .addend = reinterpret_cast<const std::byte*>(d),
                                            .alpha = alpha});
    };
    part(first, a.high, b.high);
    part(added, a.high, b.low);
    part(added, a.low, b.high);
  }

  void update(int64_t first_matrix, const float* o, int64_t matrix_step, const float* factors) const {
    const int64_t part_size = work_.size / op_.parts, part_cols = work_.cols / op_.parts;
    const bool by_rows = op_.of_columns && op_.parts > 1;
    const int64_t length = by_rows ? part_cols : part_size;
    const auto wide = static_cast<double>(work_.cols) / static_cast<double>(work_.rows);
    Update update = {.param = call_.input(Muon::kParam).as<float>() + first_matrix * part_size,
                     .o = o,
                     .factors = factors,
                     .lr = call_.input(Muon::kLr).as<float>(),
                     .scale = call_.input(Muon::kScale).as<float>(),
                     .shape_scale = static_cast<float>(std::sqrt(std::max(1.0, wide))),
                     .weight_decay = static_cast<float>(op_.weight_decay),
                     .length = length,
                     .runs = by_rows ? work_.rows : 1,
                     .matrix_step = matrix_step,
                     .run_step = work_.cols,
                     .first = op_.part * length,
                     .blocks_of_run = 0};
    const bool in_packs = length % kSize == 0;
    gpu::Launch launch = matrices_launch(call_.stream, in_packs ? length / kSize : length, matrices_);
    update.blocks_of_run = launch.grid.x;
    launch.grid.x *= static_cast<unsigned>(update.runs);
    gpu::launch(launch, in_packs ? update_kernel<kSize> : update_kernel<1>, update);
  }

  const Muon& op_;
  const CudaCall& call_;
  const Work work_;
  float *x_, *gram_;               // gram is also the polynomial
  Halves x_halves_, gram_halves_;  // of either
  double* sums_;
  float* shrink_;
  int64_t matrices_ = 0;   // at work now
  int first_product_ = 0;  // for so many
};

}  // namespace

template <>
Status prepare_cuda(const MuonMomentum&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const MuonMomentum& op, const CudaCall& call) {
  const View &grad = call.input(MuonMomentum::kGrad), &direction = call.output(MuonMomentum::kDirection);
  CHECK(grad.dtype == DType::kF32, "fp64 programs run on reference kernels");
  gpu::launch(gpu::array_launch(call.stream, gpu::divide_up(grad.num_elements(), kSize)), momentum_kernel,
              grad.as<float>(), call.input(MuonMomentum::kMomentumBuffer).as<float>(), direction.as<float>(),
              call.input(MuonMomentum::kScale).as<float>(), static_cast<float>(op.momentum), grad.num_elements());
}

template <>
Status prepare_cuda(const Muon& op, CudaPrepare& prepare) {
  const Work work(prepare.shapes.shape(Muon::kDirection));
  if (work.count == 0) return ok_status();
  prepare.workspace_bytes = work.bytes_of(work.at_once);
  if (op.iterations == 0) return ok_status();
  for (const int64_t matrices : {work.at_once, work.count % work.at_once}) {
    if (matrices == 0) continue;
    for (const gpu::GemmSpec& product : products_of(work, matrices)) RETURN_IF_ERROR(prepare.gemm(product).status());
  }
  return ok_status();
}

template <>
void run_cuda(const Muon& op, const CudaCall& call) {
  CHECK(call.input(Muon::kDirection).dtype == DType::kF32, "fp64 programs run on reference kernels");
  MuonRun(op, call).run();
}

}  // namespace colossus
