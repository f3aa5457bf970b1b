// Networks that several tests stand on.
#pragma once

#include <numeric>
#include <vector>

#include "device/sim/network.h"

namespace colossus {

// H100 with eight 400G NICs, two tiers.
inline NetworkSpec h100_network() {
  return {.domain_gpus = 8,
          .domain_gb_per_second = 450,
          .in_switch_reduction = true,
          .nic_gb_per_second = 50,
          .tiers = {{.name = "leaf", .gpus = 256}, {.name = "spine", .gpus = 8192}, {.name = "core", .gpus = 131072}}};
}

// Links that reach what their data sheet says, and libraries that cost nothing.
inline NetworkCalibration ideal() {
  return {.launch_us = 0,
          .domain_efficiency = 1,
          .in_switch_efficiency = 1e9,
          .nic_efficiency = 1,
          .tree_efficiency = 1,
          .pat_efficiency = 1,
          .domain_fill = 0,
          .network_fill = 0,
          .adaptive_efficiency = 1};
}

inline std::vector<int64_t> first_gpus(int64_t count) {
  std::vector<int64_t> gpus(static_cast<size_t>(count));
  std::iota(gpus.begin(), gpus.end(), 0);
  return gpus;
}

}  // namespace colossus
