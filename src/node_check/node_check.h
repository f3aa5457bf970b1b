// Is this machine fit to join a run? All checks in turn, so that none disturbs another; under two minutes.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "node_check/cpu_check.h"
#include "node_check/disk_check.h"
#include "node_check/figures.h"
#include "node_check/link_check.h"
#include "node_check/memory_check.h"
#include "node_check/report.h"

namespace colossus {

// In the order they run.
inline constexpr std::array<const char*, 7> kCheckNames = {"gpu",  "kernel-log", "cpu",  "memory",
                                                           "disk", "links",      "clock"};

struct NodeCheckOptions {
  std::vector<std::string> only;  // of kCheckNames; empty: all that have what they need
  std::optional<Expected> expected;
  CpuCheckOptions cpu;
  MemoryCheckOptions memory;
  DiskCheckOptions disk;
  std::string store;  // where the nodes of a check of links meet; "": no links
  LinkCheckOptions links;
  double kernel_log_hours = 24;
  // Saved from another machine, instead of this one's.
  std::vector<std::string> gpu_listings;                // files
  std::string kernel_log;                               // a file
  std::function<void(const char* name)> on_check = {};  // before each
};

// A check that could not be made is a result; a status is of the options: a file that is not there, an unknown name.
Result<NodeReport> check_node(FileSystem& files, const NodeCheckOptions& options, const std::atomic<bool>& stop);

}  // namespace colossus
