#include "cli/devices_command.h"

#include <cstdio>

#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"

namespace colossus {
namespace {

Status list_devices() {
  const auto cpu = make_cpu_device();
  std::printf("cpu: %s\n", cpu.ok() ? (*cpu)->description().c_str() : cpu.status().message().c_str());
  const auto gpus = describe_cuda_devices();
  if (gpus.ok())
    std::printf("%s", gpus->c_str());
  else
    std::printf("cuda: none: %s\n", gpus.status().message().c_str());
  return ok_status();
}

}  // namespace

void add_devices_command(Command root) {
  root.add_command("devices", "What training and generation can run on here, and why a GPU is not used")
      .run(list_devices);
}

}  // namespace colossus
