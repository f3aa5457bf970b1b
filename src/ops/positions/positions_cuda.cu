#include "device/cuda/cuda_kernel.h"
#include "device/cuda/row_kernels.h"
#include "ops/positions/positions.h"

namespace colossus {
namespace {

__global__ void positions_kernel(int32_t* positions, int64_t count, int64_t tokens, int64_t first, int64_t second,
                                 int64_t num_first) {
  const int64_t at = gpu::array_index();
  if (at >= count) return;
  const int64_t t = at % tokens;
  positions[at] = static_cast<int32_t>(t < num_first ? first + t : second + t - num_first);
}

}  // namespace

template <>
Status prepare_cuda(const Positions&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const Positions& op, const CudaCall& call) {
  const int64_t count = op.batch * op.tokens;
  gpu::launch(gpu::array_launch(call.stream, count), positions_kernel, call.output(Positions::kPositions).as<int32_t>(),
              count, op.tokens, op.first, op.second, op.tokens - op.num_second);
}

}  // namespace colossus
