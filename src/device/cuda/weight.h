// Matrices that are multiplied in the type of the activations beside them: as they lie, as the copy that the executor
// keeps of a parameter, or converted into the workspace by each run.
#pragma once

#include "device/cuda/cuda_kernel.h"

namespace colossus {

// Bytes of workspace that weight_as() needs, a multiple of 64.
int64_t prepare_weight(CudaPrepare& prepare, int input, DType operands);
// The same number, of a run.
int64_t weight_workspace_bytes(const CudaCall& call, int input, DType operands);
// Input `input` as `operands`.
const std::byte* weight_as(const CudaCall& call, int input, DType operands, std::byte* workspace);

}  // namespace colossus
