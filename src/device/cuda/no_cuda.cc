#include "device/cuda/cuda_device.h"

namespace colossus {
namespace {

Status without_cuda() {
  return unavailable(
      "this program was built without CUDA; install the CUDA toolkit (nvcc 13 or later) and build it anew with "
      "cmake --preset cuda && cmake --build build/cuda");
}

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(const CudaOptions&) { return without_cuda(); }
int count_cuda_devices() { return 0; }

Result<std::string> describe_cuda_devices() { return without_cuda(); }

}  // namespace colossus
