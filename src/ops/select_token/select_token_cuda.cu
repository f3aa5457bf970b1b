#include "device/cuda/array_kernels.h"
#include "device/cuda/cuda_kernel.h"
#include "ops/select_token/select_token.h"

namespace colossus {
namespace {

// A row of blocks for each sequence.
template <class T>
__global__ void select_kernel(const T* x, const int32_t* index, T* y, int64_t num_tokens, int64_t width) {
  const int64_t column = gpu::array_index(), sequence = blockIdx.y;
  if (column >= width) return;
  int64_t token = index[sequence];
  if (token < 0 || token >= num_tokens) token = 0;
  y[sequence * width + column] = x[(sequence * num_tokens + token) * width + column];
}

}  // namespace

template <>
Status prepare_cuda(const SelectToken&, CudaPrepare& prepare) {
  if (prepare.shapes.shape(SelectToken::kX)[0] > 65535) return invalid("select_token: more than 65535 sequences");
  return ok_status();
}

template <>
void run_cuda(const SelectToken&, const CudaCall& call) {
  const View &x = call.input(SelectToken::kX), &y = call.output(SelectToken::kY);
  const int64_t width = x.shape[2];
  gpu::with_type(x.dtype, [&]<class T>(T*) {
    gpu::Launch launch = gpu::array_launch(call.stream, width);
    launch.grid.y = static_cast<unsigned>(x.shape[0]);
    gpu::launch(launch, select_kernel<T>, x.as<T>(), call.input(SelectToken::kIndex).as<int32_t>(), y.as<T>(),
                x.shape[1], width);
  });
}

}  // namespace colossus
