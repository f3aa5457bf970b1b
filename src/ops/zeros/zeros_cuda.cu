#include "device/cuda/cuda_kernel.h"
#include "ops/zeros/zeros.h"

namespace colossus {

template <>
Status prepare_cuda(const Zeros&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const Zeros&, const CudaCall& call) {
  const View& zeros = call.output(Zeros::kZeros);
  gpu::set_zero(call.stream, zeros.data, zeros.num_bytes());
}

}  // namespace colossus
