// A checkpoint from one place to another: from a disk to S3 and back.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

struct CopyOptions {
  // Called with the bytes copied so far; false stops it (kInterrupted).
  std::function<bool(int64_t num_bytes)> progress;
};

// Copies checkpoint `from`, as it is, to the new directory `to`, which appears whole or not at all. All checksums are
// compared: of a copy that comes to a disk, of the original else. Memory: a few blocks.
Status copy_checkpoint(FileSystem& files, const std::string& from, const std::string& to,
                       const CopyOptions& options = {});

}  // namespace colossus
