#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/rms_norm/rms_norm.h"

namespace colossus {
namespace {

// A block for each norm (row, or head of a row). kSize elements at once: 1 where rows do not begin at multiples of 16
// bytes.
template <class T, int kSize>
__global__ void rms_norm_kernel(const T* x, const float* scale, const T* addend, T* y, float* rstd, int64_t width,
                                float eps) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, begin = row * width;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kSize, step = static_cast<int64_t>(blockDim.x) * kSize;
  float squares = 0;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize];
    gpu::load_floats(x + begin + at, values);
    for (int i = 0; i < kSize; ++i) squares += values[i] * values[i];
  }
  squares = gpu::block_sum(squares, scratch);
  const float r = 1.0F / sqrtf(squares / static_cast<float>(width) + eps);
  if (threadIdx.x == 0) rstd[row] = r;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i) values[i] *= r * scales[i];
    if (addend) {
      float addends[kSize];
      gpu::load_floats(addend + begin + at, addends);
      for (int i = 0; i < kSize; ++i) values[i] = addends[i] + gpu::float_of(gpu::rounded<T>(values[i]));
    }
    gpu::store_floats(values, y + begin + at);
  }
}

// dx = rstd dy scale - x rstd^3 mean(dy scale x)
template <class T, int kSize>
__global__ void rms_norm_grad_kernel(const T* dy, const T* x, const float* scale, const float* rstd, const T* addend,
                                     T* dx, int64_t width) {
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x, begin = row * width;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kSize, step = static_cast<int64_t>(blockDim.x) * kSize;
  float dot = 0;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], grads[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_floats(dy + begin + at, grads);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i) dot += grads[i] * scales[i] * values[i];
  }
  dot = gpu::block_sum(dot, scratch);
  const float r = rstd[row], along_x = -dot / static_cast<float>(width) * r * r * r;
  for (int64_t at = first; at < width; at += step) {
    float values[kSize], grads[kSize], scales[kSize];
    gpu::load_floats(x + begin + at, values);
    gpu::load_floats(dy + begin + at, grads);
    gpu::load_parameters(scale + at, scales);
    for (int i = 0; i < kSize; ++i) values[i] = grads[i] * r * scales[i] + values[i] * along_x;
    if (addend) {
      gpu::load_floats(addend + begin + at, grads);
      for (int i = 0; i < kSize; ++i) values[i] += grads[i];
    }
    gpu::store_floats(values, dx + begin + at);
  }
}

// Column sums of dy x rstd over a block of rows: a thread for each column, rows in order.
template <class T>
__global__ void scale_grad_kernel(const T* dy, const T* x, const float* rstd, float* block_sums, int64_t rows,
                                  int64_t width, int64_t block_rows) {
  const int64_t column = gpu::array_index();
  if (column >= width) return;
  const int64_t first = blockIdx.y * block_rows, last = first + block_rows < rows ? first + block_rows : rows;
  float sum = 0;
  for (int64_t row = first; row < last; ++row)
    sum += gpu::float_of(dy[row * width + column]) * gpu::float_of(x[row * width + column]) * rstd[row];
  block_sums[blockIdx.y * width + column] = sum;
}

struct Rows {
  int64_t count, width;
};
Rows norms_of(const Shape& x, const Shape& scale) {
  return {.count = x.num_elements() / scale.num_elements(), .width = scale.num_elements()};
}

}  // namespace

template <>
Status prepare_cuda(const RmsNorm&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const RmsNorm& op, const CudaCall& call) {
  const View &x = call.input(RmsNorm::kX), &scale = call.input(RmsNorm::kScale);
  const Rows rows = norms_of(x.shape, scale.shape);
  gpu::with_elements(x.dtype, rows.width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch({.stream = call.stream,
                 .grid = {static_cast<unsigned>(rows.count)},
                 .block = {gpu::threads_for_row(rows.width, kSize)}},
                rms_norm_kernel<T, kSize>, x.as<T>(), scale.as<float>(),
                call.has_input(RmsNorm::kAddend) ? call.input(RmsNorm::kAddend).as<T>() : nullptr,
                call.output(RmsNorm::kY).as<T>(), call.output(RmsNorm::kRstd).as<float>(), rows.width,
                static_cast<float>(op.eps));
  });
}

template <>
Status prepare_cuda(const RmsNormGrad&, CudaPrepare& prepare) {
  using N = RmsNormGrad;
  const Rows rows = norms_of(prepare.shapes.shape(N::kX), prepare.shapes.shape(N::kScale));
  if (prepare.shapes.has_input(N::kDscale)) prepare.workspace_bytes = gpu::column_sums_bytes(rows.count, rows.width);
  return ok_status();
}

template <>
void run_cuda(const RmsNormGrad&, const CudaCall& call) {
  using N = RmsNormGrad;
  const View &x = call.input(N::kX), &scale = call.input(N::kScale), &rstd = call.input(N::kRstd);
  const Rows rows = norms_of(x.shape, scale.shape);
  gpu::with_elements(x.dtype, rows.width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    const T* dy = call.input(N::kDy).as<T>();
    if (call.has_input(N::kDscale)) {
      auto* block_sums = reinterpret_cast<float*>(call.workspace);
      gpu::launch(gpu::column_sums_launch(call.stream, rows.count, rows.width), scale_grad_kernel<T>, dy, x.as<T>(),
                  rstd.as<float>(), block_sums, rows.count, rows.width, gpu::kColumnSumRows);
      gpu::add_column_sums(call.stream, block_sums, rows.count, rows.width, call.input(N::kDscale).as<float>());
    }
    gpu::launch({.stream = call.stream,
                 .grid = {static_cast<unsigned>(rows.count)},
                 .block = {gpu::threads_for_row(rows.width, kSize)}},
                rms_norm_grad_kernel<T, kSize>, dy, x.as<T>(), scale.as<float>(), rstd.as<float>(),
                call.has_input(N::kAddend) ? call.input(N::kAddend).as<T>() : nullptr, call.output(N::kDx).as<T>(),
                rows.width);
  });
}

}  // namespace colossus
