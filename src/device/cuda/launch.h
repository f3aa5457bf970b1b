// Where and how wide a kernel runs.
#pragma once

#include "device/cuda/gpu.h"

namespace colossus::gpu {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  Stream stream = nullptr;
  Dim grid, block;
  int64_t shared_bytes = 0;  // of dynamic_shared()
};

}  // namespace colossus::gpu
