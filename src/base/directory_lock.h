// One user of a directory at a time.
#pragma once

#include <string>
#include <utility>

#include "base/status.h"

namespace colossus {

// Held until it is destroyed and every process that was started meanwhile has ended: these inherit it. It says nothing
// to those who do not ask. Leaves no file.
class DirectoryLock {
 public:
  // kUnavailable when another process has it. Where the file system knows no locks, everybody gets it.
  static Result<DirectoryLock> take(const std::string& directory);
  DirectoryLock(DirectoryLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  DirectoryLock& operator=(DirectoryLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~DirectoryLock();

 private:
  explicit DirectoryLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_ = -1;
};

}  // namespace colossus
