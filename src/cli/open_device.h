// Which device a command computes on.
#pragma once

#include <memory>
#include <string>

#include "cli/command.h"
#include "device/device.h"

namespace colossus {

struct DeviceArguments {
  std::string device = "auto";  // "cpu", "cuda", "cuda:1"; auto: the first GPU where one can be used, else the CPU
  int threads = 0;              // of the CPU; 0: every core
  int place = 0;                // of this rank on the machine: the GPU that "cuda" and "auto" mean
  int ranks = 1;                // on the machine: "auto" takes GPUs where each has one
  bool pin = true;
  Trace* trace = nullptr;          // outlives the device
  std::string asked_by = "--device";  // for errors
};

void add_device_options(Command command, DeviceArguments& arguments);

// A GPU that is there and cannot be used is said on stderr where "auto" passes it over, an error where it was asked
// for.
Result<std::unique_ptr<Device>> open_device(const DeviceArguments& arguments);

}  // namespace colossus
