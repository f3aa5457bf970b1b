// Is memory fast, and does it keep what it is given?
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "node_check/report.h"

namespace colossus {

struct MemoryCheckOptions {
  int64_t max_bytes = int64_t{8} << 30;  // at most; and at most 3/4 of what is free
  int num_threads = 0;                   // 0: one for each usable core
  double seconds = 30;                   // patterns that do not fit are left out; the first always runs
  // For tests: called between writing a pattern and reading it.
  std::function<void(std::span<uint64_t>)> damage = {};
};

// "memory" (the patterns), "memory_read" and "memory_copy" (the rates).
std::vector<CheckResult> check_memory(const MemoryCheckOptions& options);

// What can be taken without pushing others out: MemAvailable of /proc/meminfo. 0 when the text does not say.
int64_t available_memory_bytes(std::string_view meminfo);
// What a control group leaves: memory.max less memory.current; INT64_MAX without a limit ("max").
int64_t cgroup_room_bytes(std::string_view max, std::string_view current);

}  // namespace colossus
