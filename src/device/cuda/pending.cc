#include "device/cuda/cuda_kernel.h"
#include "program/op.h"

namespace colossus {

#define PENDING(Op)                              \
  template <>                                    \
  Status prepare_cuda(const Op&, CudaPrepare&) { \
    return unavailable("no GPU kernel: " #Op);   \
  }                                              \
  template <>                                    \
  void run_cuda(const Op&, const CudaCall&) {}


}  // namespace colossus
