#include "ops/grad_norm/grad_norm_cuda.h"

#include <algorithm>
#include <limits>

#include "base/exact_sum.h"
#include "device/cuda/cuda_kernel.h"

namespace colossus {
namespace {

// Words that threads add to in any order: of integers, and unsigned, as CUDA has 64-bit atomics.
using Word = unsigned long long;
static_assert(sizeof(Word) == sizeof(int64_t));

// The tensors of a launch, with blocks numbered through them all: models have hundreds of small ones.
constexpr int kMostTensors = 64;
struct Tensors {
  const float* data[kMostTensors];
  int64_t num_elements[kMostTensors];
  int first_block[kMostTensors + 1];
  int count;
};

// A thread for every 512 elements, which reads 4 bytes an element at full width and works little: one conversion, which
// a multiprocessor does 16 of in a cycle while memory brings about 5 elements, and one fp64 multiply-add. What it
// leaves is three integer additions in shared memory for 4096 elements, and 21 in global memory for each 128 Ki: no
// carry is lost before 2^30 blocks.
constexpr unsigned kThreads = 256;
constexpr int kBlocksAtOnce = kThreads / gpu::kThreadsPerSquaresBlock;
__global__ void __launch_bounds__(kThreads) sum_of_squares_kernel(Tensors tensors, Word* words) {
  __shared__ Word block_words[ExactSum::kWords];
  if (threadIdx.x < ExactSum::kWords) block_words[threadIdx.x] = 0;
  __syncthreads();
  const int block =
      static_cast<int>(blockIdx.x) * kBlocksAtOnce + static_cast<int>(threadIdx.x) / gpu::kThreadsPerSquaresBlock;
  const float* from = nullptr;
  int count = 0;
  if (block < tensors.first_block[tensors.count]) {
    int low = 0, high = tensors.count;  // first_block[low] <= block < first_block[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (tensors.first_block[middle] <= block ? low : high) = middle;
    }
    const int64_t at = (block - tensors.first_block[low]) * kSumOfSquaresBlock;
    const int64_t left = tensors.num_elements[low] - at;
    from = tensors.data[low] + at;
    count = static_cast<int>(left < kSumOfSquaresBlock ? left : kSumOfSquaresBlock);
  }
  const double sum = gpu::sum_of_squares(from, count);
  if (gpu::lane() % gpu::kThreadsPerSquaresBlock == 0) {
    const ExactSum::Parts parts = ExactSum::parts_of(sum);
    for (int i = 0; i < 3; ++i)
      if (parts.limbs[i] != 0) atomicAdd(&block_words[parts.first + i], static_cast<Word>(parts.limbs[i]));
  }
  __syncthreads();
  if (threadIdx.x < ExactSum::kWords && block_words[threadIdx.x] != 0)
    atomicAdd(&words[threadIdx.x], block_words[threadIdx.x]);
}

__global__ void normalize_kernel(int64_t* words) {
  if (threadIdx.x != 0) return;
  ExactSum::Words sum;
  for (int i = 0; i < ExactSum::kWords; ++i) sum[i] = words[i];
  sum = ExactSum(sum).words();
  for (int i = 0; i < ExactSum::kWords; ++i) words[i] = sum[i];
}

__global__ void exact_sum_value_kernel(const int64_t* words, double scale, bool square_root, float* value) {
  if (threadIdx.x != 0) return;
  ExactSum::Words sum;
  for (int i = 0; i < ExactSum::kWords; ++i) sum[i] = words[i];
  const double scaled = scale * ExactSum(sum).value();
  *value = static_cast<float>(square_root ? sqrt(scaled) : scaled);
}

__global__ void clip_scale_kernel(const float* norm, const float* loss, double max_norm, float* scale) {
  if (threadIdx.x != 0) return;
  const bool finite = std::isfinite(*norm) && (!loss || std::isfinite(*loss));
  const double clipped = max_norm / (static_cast<double>(*norm) + 1e-6);
  *scale = !finite         ? std::numeric_limits<float>::quiet_NaN()
           : max_norm == 0 ? 1.0F
                           : static_cast<float>(clipped < 1 ? clipped : 1);
}

gpu::Launch one_warp(gpu::Stream stream) { return {.stream = stream, .grid = {1}, .block = {32}}; }

}  // namespace

template <>
Status prepare_cuda(const SumOfSquares&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const SumOfSquares&, const CudaCall& call) {
  CHECK(call.input(SumOfSquares::kGrads).dtype == DType::kF32, "fp64 programs run on reference kernels");
  const View& sum = call.output(SumOfSquares::kSum);
  gpu::set_zero(call.stream, sum.data, sum.num_bytes());
  auto* words = reinterpret_cast<Word*>(sum.data);
  for (int first = 0; first < call.num_inputs(); first += kMostTensors) {
    Tensors tensors{};
    tensors.count = std::min(kMostTensors, call.num_inputs() - first);
    for (int i = 0; i < tensors.count; ++i) {
      const View& grad = call.input(first + i);
      tensors.data[i] = grad.as<float>();
      tensors.num_elements[i] = grad.num_elements();
      tensors.first_block[i + 1] =
          tensors.first_block[i] + static_cast<int>(gpu::divide_up(grad.num_elements(), kSumOfSquaresBlock));
    }
    const int64_t blocks = gpu::divide_up(tensors.first_block[tensors.count], kBlocksAtOnce);
    gpu::launch({.stream = call.stream, .grid = {static_cast<unsigned>(blocks)}, .block = {kThreads}},
                sum_of_squares_kernel, tensors, words);
  }
  gpu::launch(one_warp(call.stream), normalize_kernel, sum.as<int64_t>());
}

template <>
Status prepare_cuda(const ExactSumValue&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const ExactSumValue& op, const CudaCall& call) {
  gpu::launch(one_warp(call.stream), exact_sum_value_kernel, call.input(ExactSumValue::kSum).as<int64_t>(), op.scale,
              op.square_root, call.output(ExactSumValue::kValue).as<float>());
}

template <>
Status prepare_cuda(const ClipScale&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const ClipScale& op, const CudaCall& call) {
  gpu::launch(one_warp(call.stream), clip_scale_kernel, call.input(ClipScale::kNorm).as<float>(),
              call.has_input(ClipScale::kLoss) ? call.input(ClipScale::kLoss).as<float>() : nullptr, op.max_norm,
              call.output(ClipScale::kScale).as<float>());
}

}  // namespace colossus
