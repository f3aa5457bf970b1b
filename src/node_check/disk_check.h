// Is a directory's disk fast, and does it give back what it was given?
#pragma once

#include <string>
#include <vector>

#include "io/file_system.h"
#include "node_check/report.h"

namespace colossus {

struct DiskCheckOptions {
  std::string directory = ".";
  int64_t max_bytes = int64_t{512} << 20;  // at most, and at most a quarter of what is free
  double seconds = 20;                     // of writing; a slow disk gets a smaller file
  int num_syncs = 20;
};

// "disk" (the bytes, free space), "disk_write", "disk_read", "disk_sync". The file is removed again.
std::vector<CheckResult> check_disk(FileSystem& files, const DiskCheckOptions& options);

}  // namespace colossus
