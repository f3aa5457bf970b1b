#pragma once

#include "device/cuda/launch.h"

namespace colossus::gpu {

// A kernel by nvcc's name for it, with the addresses of its arguments. last_error() has the first failure.
void launch_kernel(const Launch& where, const void* kernel, void** arguments);

}  // namespace colossus::gpu
