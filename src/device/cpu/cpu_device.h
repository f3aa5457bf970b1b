// Runs programs on the cores of this machine. Kernels allocate nothing and take no lock.
#pragma once

#include <memory>

#include "device/device.h"

namespace colossus {

struct CpuOptions {
  int num_threads = 0;     // 0: every core this process may use
  bool pin = true;         // each worker to a core of its own, if there are as many cores as threads
  bool reference = false;  // run the plain fp64 meaning of each operation: slow, for tests
  Trace* trace = nullptr;  // outlives the device
};

// Fails on a processor without AVX2.
Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options = {});

}  // namespace colossus
