// The machines that a test of whole models runs on.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"

namespace colossus {

enum class TestDevice { kCpu, kGpu };

inline const char* test_device_name(TestDevice device) { return device == TestDevice::kCpu ? "cpu" : "gpu"; }

// The GPU is the one that this program was linked with: played on the CPU in the tests of the build, real in
// colossus_gpu_check (bench/gpu).
inline std::unique_ptr<Device> device_of_test(TestDevice device) {
  auto made = device == TestDevice::kCpu ? make_cpu_device({.num_threads = 1}) : make_cuda_device();
  CHECK(made.ok(), made.ok() ? "" : made.status().message().c_str());
  return std::move(*made);
}

// Where the project's files are: a check that was carried to another machine is told.
inline std::string project_directory() {
  const char* const told = std::getenv("COLOSSUS_SOURCE_DIRECTORY");
  return told ? told : COLOSSUS_SOURCE_DIR;
}

}  // namespace colossus
