// For tests only: a directory that goes away.
#pragma once

#include <cstdlib>
#include <string>

#include "io/file_system.h"

namespace colossus {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* parent = std::getenv("TMPDIR");
    std::string name = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/colossus-test-XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr, "the test needs a writable temporary directory; set TMPDIR");
    path_ = name;
  }
  ~TemporaryDirectory() { static_cast<void>(local_files().remove_all(path_)); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace colossus
