#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "device/cuda/weight.h"
#include "ops/activation/activation_cuda.h"
#include "ops/matmul/matmul.h"

namespace colossus {
namespace {

// y = f(product) + addend, where the product cannot do it itself; y may be where the product is.
template <class From, class T, int kSize>
__global__ void finish_kernel(const From* product, T* y, const T* addend, ActivationKind kind, int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  float values[kSize];
  for (int i = 0; i < kSize; ++i) values[i] = activation_value(kind, gpu::float_of(product[at + i]));
  if (addend) {
    float addends[kSize];
    gpu::load_floats(addend + at, addends);
    for (int i = 0; i < kSize; ++i) values[i] += addends[i];
  }
  gpu::store_floats(values, y + at);
}

template <class T>
__global__ void bias_grad_kernel(const T* dy, float* block_sums, int64_t rows, int64_t width) {
  const int64_t column = gpu::array_index();
  if (column >= width) return;
  const int64_t first = blockIdx.y * gpu::kColumnSumRows;
  const int64_t last = first + gpu::kColumnSumRows < rows ? first + gpu::kColumnSumRows : rows;
  float sum = 0;
  for (int64_t row = first; row < last; ++row) sum += gpu::float_of(dy[row * width + column]);
  block_sums[blockIdx.y * width + column] = sum;
}

template <class T, int kSize>
__global__ void add_bias_kernel(const T* x, const float* bias, T* y, int64_t width, int64_t num_elements) {
  const int64_t at = gpu::array_index() * kSize;
  if (at >= num_elements) return;
  float values[kSize], biases[kSize];
  gpu::load_floats(x + at, values);
  gpu::load_parameters(bias + at % width, biases);
  for (int i = 0; i < kSize; ++i) values[i] += biases[i];
  gpu::store_floats(values, y + at);
}

// What a product leaves to finish_kernel.
struct Steps {
  DType product;          // of what the product writes
  bool in_place;          // to y; otherwise to the workspace: there is no product of fp32 into bf16
  bool finishes;          // finish_kernel runs
  int64_t product_bytes;  // of the workspace
};
Steps steps_of(const Matmul& op, DType a, const TensorType& y) {
  Steps steps{.product = a == DType::kF32 ? DType::kF32 : y.dtype};
  steps.in_place = steps.product == y.dtype;
  steps.finishes = !steps.in_place || op.activation != ActivationKind::kNone;
  steps.product_bytes = steps.in_place ? 0 : y.shape.num_elements() * dtype_bytes(steps.product);
  return steps;
}

}  // namespace

template <>
Status prepare_cuda(const Matmul& op, CudaPrepare& prepare) {
  const OpShapes& shapes = prepare.shapes;
  const bool adds = shapes.has_input(Matmul::kInto), has_bias = shapes.has_input(Matmul::kBias);
  const TensorType &a = shapes.input(Matmul::kA), &y = adds ? shapes.input(Matmul::kInto) : shapes.output(Matmul::kY);
  const Steps steps = steps_of(op, a.dtype, y);
  prepare.workspace_bytes = prepare_weight(prepare, Matmul::kB, a.dtype) + steps.product_bytes;
  if (has_bias) prepare.workspace_bytes += prepare_weight(prepare, Matmul::kBias, steps.product);
  return prepare
      .gemm({.m = y.shape.num_rows(),
             .n = y.shape.row_size(),
             .k = op.transpose_a ? a.shape.num_rows() : a.shape.row_size(),
             .operands = a.dtype,
             .result = steps.product,
             .transpose_a = op.transpose_a,
             .transpose_b = op.transpose_b,
             .has_bias = has_bias,
             .has_addend = adds || (shapes.has_input(Matmul::kAddend) && !steps.finishes)})
      .status();
}

template <>
void run_cuda(const Matmul& op, const CudaCall& call) {
  const bool adds = call.has_input(Matmul::kInto), has_addend = call.has_input(Matmul::kAddend);
  const View& y = adds ? call.input(Matmul::kInto) : call.output(Matmul::kY);
  const View& a = call.input(Matmul::kA);
  const Steps steps = steps_of(op, a.dtype, {y.shape, y.dtype});
  std::byte* workspace = call.workspace;
  const std::byte* b = weight_as(call, Matmul::kB, a.dtype, workspace);
  workspace += weight_workspace_bytes(call, Matmul::kB, a.dtype);
  const std::byte* bias = nullptr;
  if (call.has_input(Matmul::kBias)) {
    bias = weight_as(call, Matmul::kBias, steps.product, workspace);
    workspace += weight_workspace_bytes(call, Matmul::kBias, steps.product);
  }
  const std::byte* addend = has_addend ? call.input(Matmul::kAddend).data : nullptr;
  std::byte* product = steps.in_place ? y.data : workspace;
  call.gemm(0, {.a = a.data,
                .b = b,
                .d = product,
                .bias = bias,
                .addend = adds ? y.data : addend,
                .alpha = static_cast<float>(op.alpha)});
  if (!steps.finishes) return;
  CHECK(!adds, "a product that is added into fp32 has nothing behind it");
  gpu::with_elements(y.dtype, y.num_elements(), [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    const auto finish = [&]<class From>(const From* from) {
      gpu::launch(gpu::array_launch(call.stream, y.num_elements() / kSize), finish_kernel<From, T, kSize>, from,
                  y.as<T>(), reinterpret_cast<const T*>(addend), op.activation, y.num_elements());
    };
    if (steps.product == DType::kF32)
      finish(reinterpret_cast<const float*>(product));
    else
      finish(reinterpret_cast<const BFloat16*>(product));
  });
}

template <>
Status prepare_cuda(const BiasGrad&, CudaPrepare& prepare) {
  const Shape& dy = prepare.shapes.shape(BiasGrad::kDy);
  prepare.workspace_bytes = gpu::column_sums_bytes(dy.num_rows(), dy.row_size());
  return ok_status();
}

template <>
void run_cuda(const BiasGrad&, const CudaCall& call) {
  const View& dy = call.input(BiasGrad::kDy);
  const int64_t rows = dy.shape.num_rows(), width = dy.shape.row_size();
  auto* block_sums = reinterpret_cast<float*>(call.workspace);
  gpu::with_elements(dy.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(gpu::column_sums_launch(call.stream, rows, width), bias_grad_kernel<T>, dy.as<T>(), block_sums, rows,
                width);
  });
  gpu::add_column_sums(call.stream, block_sums, rows, width, call.input(BiasGrad::kDbias).as<float>());
}

template <>
Status prepare_cuda(const AddBias&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const AddBias&, const CudaCall& call) {
  const View &x = call.input(AddBias::kX), &y = call.output(AddBias::kY);
  gpu::with_elements(x.dtype, x.shape.row_size(), [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(gpu::array_launch(call.stream, x.num_elements() / kSize), add_bias_kernel<T, kSize>, x.as<T>(),
                call.input(AddBias::kBias).as<float>(), y.as<T>(), x.shape.row_size(), x.num_elements());
  });
}

}  // namespace colossus
