// Runs programs on one NVIDIA GPU: kernels of our own (*_cuda.cu beside each operation), cuBLASLt for products; a whole
// program is one CUDA graph. A program links one of three libraries that have these functions: the CUDA runtime
// (native/), none (no_cuda.cc), and a GPU of this process for tests (emulated/).
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace colossus {

struct CudaOptions {
  int index = 0;           // among the GPUs that this process sees; ranks have one each
  Trace* trace = nullptr;  // outlives the device
};

// Fails where there is no GPU, driver or library, or not this one; the message says what would help.
Result<std::unique_ptr<Device>> make_cuda_device(const CudaOptions& options = {});

// How many GPUs this process sees; 0 where none can be used.
int count_cuda_devices();

// For people: "0: NVIDIA H200, 132 multiprocessors, 139.8 GiB of memory", one GPU each line; or why there is none.
Result<std::string> describe_cuda_devices();

}  // namespace colossus
