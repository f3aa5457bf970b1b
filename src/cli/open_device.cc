#include "cli/open_device.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <filesystem>

#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"

namespace colossus {
namespace {

constexpr std::string_view kCuda = "cuda";

Status not_a_device(const DeviceArguments& arguments) {
  return invalid(fmt::format("[{}] is \"{}\"; needed cpu, cuda, cuda:N (the N-th GPU, from 0) or auto", arguments.asked_by,
                             arguments.device));
}

// The number in "cuda:N"; of "cuda" the rank's own.
Result<int> gpu_index(const DeviceArguments& arguments) {
  int index = arguments.place;
  const std::string_view number = std::string_view(arguments.device).substr(kCuda.size());
  if (number.empty()) return index;
  const char* const end = number.data() + number.size();
  const auto [read_to, error] = std::from_chars(number.data() + 1, end, index);
  if (number.front() != ':' || error != std::errc() || read_to != end || index < 0) return not_a_device(arguments);
  return index;
}

// The driver's own sign of a GPU: without it a build with CUDA is silent on a machine that has none.
bool has_gpu_driver() {
  return std::filesystem::exists("/proc/driver/nvidia") || std::filesystem::exists("/dev/nvidia0");
}

}  // namespace

void add_device_options(Command command, DeviceArguments& arguments) {
  command.option("--device", arguments.device, "cpu, cuda, cuda:N, or auto: the first GPU where there is one");
  command.option("--threads", arguments.threads, "of the CPU; 0: every core", {.min = 0, .max = 4096});
}

Result<std::unique_ptr<Device>> open_device(const DeviceArguments& arguments) {
  const CpuOptions cpu{.num_threads = arguments.threads, .pin = arguments.pin, .trace = arguments.trace};
  if (arguments.device == "cpu") return make_cpu_device(cpu);
  if (arguments.device == "auto") {
    const int gpus = count_cuda_devices();
    const bool too_few = gpus > 0 && gpus < arguments.ranks;
    auto gpu = too_few ? Result<std::unique_ptr<Device>>(unavailable(
                             fmt::format("{} ranks here want one each, and there are {}", arguments.ranks, gpus)))
                       : make_cuda_device({.index = arguments.place, .trace = arguments.trace});
    if (gpu.ok()) return gpu;
    if (has_gpu_driver() && arguments.place == 0)
      std::fprintf(stderr, "the GPU is not used: %s; --device cpu says that this is meant\n",
                   gpu.status().message().c_str());
    return make_cpu_device(cpu);
  }
  if (!arguments.device.starts_with(kCuda)) return not_a_device(arguments);
  ASSIGN_OR_RETURN(const int index, gpu_index(arguments));
  return make_cuda_device({.index = index, .trace = arguments.trace});
}

}  // namespace colossus
