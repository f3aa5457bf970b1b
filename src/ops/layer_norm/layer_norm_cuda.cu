#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/layer_norm/layer_norm.h"

namespace colossus {
namespace {

// A block for each row; what it reads again after the first time lies in the first-level cache.
template <class T, int kSize>
__global__ void layer_norm_kernel(const T* x, const float* scale, const float* bias, T* y, float* means, float* rstds,
                                  int64_t width, float eps) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, begin = row * width;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kSize, step = static_cast<int64_t>(blockDim.x) * kSize;
  float sum = 0;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize];
    gpu::load_floats(x + begin + at, values);
    for (int i = 0; i < kSize; ++i) sum += values[i];
  }
  const float mean = gpu::block_sum(sum, scratch) / static_cast<float>(width);
  float squares = 0;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize];
    gpu::load_floats(x + begin + at, values);
    for (int i = 0; i < kSize; ++i) squares += (values[i] - mean) * (values[i] - mean);
  }
  const float rstd = 1.0F / sqrtf(gpu::block_sum(squares, scratch) / static_cast<float>(width) + eps);
  if (threadIdx.x == 0) {
    means[row] = mean;
    rstds[row] = rstd;
  }
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i) values[i] = (values[i] - mean) * rstd * scales[i];
    if (bias) {
      gpu::load_parameters(bias + at, scales);
      for (int i = 0; i < kSize; ++i) values[i] += scales[i];
    }
    gpu::store_floats(values, y + begin + at);
  }
}

// With n = (x - mean) rstd and dn = dy scale: dx = rstd (dn - mean(dn) - n mean(dn n)).
template <class T, int kSize>
__global__ void layer_norm_grad_kernel(const T* dy, const T* x, const float* scale, const float* means,
                                       const float* rstds, const T* addend, T* dx, int64_t width) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, begin = row * width;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kSize, step = static_cast<int64_t>(blockDim.x) * kSize;
  const float mean = means[row], rstd = rstds[row];
  float sum = 0, sum_along = 0;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], grads[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_floats(dy + begin + at, grads);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i) {
      const float dn = grads[i] * scales[i];
      sum += dn;
      sum_along += dn * (values[i] - mean) * rstd;
    }
  }
  const float mean_dn = gpu::block_sum(sum, scratch) / static_cast<float>(width);
  const float mean_along = gpu::block_sum(sum_along, scratch) / static_cast<float>(width);
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], grads[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_floats(dy + begin + at, grads);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i)
      values[i] = rstd * (grads[i] * scales[i] - mean_dn - (values[i] - mean) * rstd * mean_along);
    if (addend) {
      gpu::load_floats(addend + begin + at, grads);
      for (int i = 0; i < kSize; ++i) values[i] += grads[i];
    }
    gpu::store_floats(values, dx + begin + at);
  }
}

// Column sums of dy (x - mean) rstd and of dy over a block of rows: a thread for each column, rows in order.
template <class T>
__global__ void parameter_grads_kernel(const T* dy, const T* x, const float* means, const float* rstds,
                                       float* scale_sums, float* bias_sums, int64_t rows, int64_t width) {
  const int64_t column = gpu::array_index();
  if (column >= width) return;
  const int64_t first = blockIdx.y * gpu::kColumnSumRows;
  const int64_t last = first + gpu::kColumnSumRows < rows ? first + gpu::kColumnSumRows : rows;
  float dscale = 0, dbias = 0;
  for (int64_t row = first; row < last; ++row) {
    const float grad = gpu::float_of(dy[row * width + column]);
    dscale += grad * (gpu::float_of(x[row * width + column]) - means[row]) * rstds[row];
    dbias += grad;
  }
  scale_sums[blockIdx.y * width + column] = dscale;
  bias_sums[blockIdx.y * width + column] = dbias;
}

}  // namespace

template <>
Status prepare_cuda(const LayerNorm&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const LayerNorm& op, const CudaCall& call) {
  using N = LayerNorm;
  const View& x = call.input(N::kX);
  const int64_t rows = x.shape.num_rows(), width = x.shape.row_size();
  gpu::with_elements(x.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch(
        {.stream = call.stream, .grid = {static_cast<unsigned>(rows)}, .block = {gpu::threads_for_row(width, kSize)}},
        layer_norm_kernel<T, kSize>, x.as<T>(), call.input(N::kScale).as<float>(),
        call.has_input(N::kBias) ? call.input(N::kBias).as<float>() : nullptr, call.output(N::kY).as<T>(),
        call.output(N::kMean).as<float>(), call.output(N::kRstd).as<float>(), width, static_cast<float>(op.eps));
  });
}

template <>
Status prepare_cuda(const LayerNormGrad&, CudaPrepare& prepare) {
  using N = LayerNormGrad;
  const Shape& x = prepare.shapes.shape(N::kX);
  if (prepare.shapes.has_input(N::kDscale) || prepare.shapes.has_input(N::kDbias))
    prepare.workspace_bytes = 2 * gpu::column_sums_bytes(x.num_rows(), x.row_size());
  return ok_status();
}

template <>
void run_cuda(const LayerNormGrad&, const CudaCall& call) {
  using N = LayerNormGrad;
  const View &x = call.input(N::kX), &dy = call.input(N::kDy);
  const float *means = call.input(N::kMean).as<float>(), *rstds = call.input(N::kRstd).as<float>();
  const int64_t rows = x.shape.num_rows(), width = x.shape.row_size();
  gpu::with_elements(x.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    if (call.has_input(N::kDscale) || call.has_input(N::kDbias)) {
      auto* scale_sums = reinterpret_cast<float*>(call.workspace);
      float* bias_sums = scale_sums + gpu::column_sums_bytes(rows, width) / 4;
      gpu::launch(gpu::column_sums_launch(call.stream, rows, width), parameter_grads_kernel<T>, dy.as<T>(), x.as<T>(),
                  means, rstds, scale_sums, bias_sums, rows, width);
      if (call.has_input(N::kDscale))
        gpu::add_column_sums(call.stream, scale_sums, rows, width, call.input(N::kDscale).as<float>());
      if (call.has_input(N::kDbias))
        gpu::add_column_sums(call.stream, bias_sums, rows, width, call.input(N::kDbias).as<float>());
    }
    gpu::launch(
        {.stream = call.stream, .grid = {static_cast<unsigned>(rows)}, .block = {gpu::threads_for_row(width, kSize)}},
        layer_norm_grad_kernel<T, kSize>, dy.as<T>(), x.as<T>(), call.input(N::kScale).as<float>(), means, rstds,
        call.has_input(N::kAddend) ? call.input(N::kAddend).as<T>() : nullptr, call.output(N::kDx).as<T>(), width);
  });
}

}  // namespace colossus
