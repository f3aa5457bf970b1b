// Are the GPUs of this machine all there, whole and linked? From what nvidia-smi says: nothing runs on them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node_check/figures.h"
#include "node_check/nvidia_smi.h"
#include "node_check/report.h"

namespace colossus {

struct GpuListings {
  std::vector<GpuState> gpus;
  std::optional<SmiTopology> topology;
  std::optional<SmiNvlinks> nvlinks;
};

// Adds a saved listing, of whichever command it is.
Status add_listing(std::string_view text, GpuListings& listings);

// "gpus" (how many), "gpu_0", ..., "nvlinks" (the least number that a GPU has up), "gpu_topology".
std::vector<CheckResult> judge_gpus(const GpuListings& listings, const Expected& expected);

// Runs nvidia-smi. Without it, and where nothing is expected, there is nothing to say: no results.
std::vector<CheckResult> check_gpus(const Expected& expected, double timeout_seconds = 30);

}  // namespace colossus
