// Files behind an interface, so that tests can fill the disk, cut a write short or take a file away at the k-th
// operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace colossus {

class FileReader {
 public:
  virtual ~FileReader() = default;
  virtual int64_t size() const = 0;
  // Reads up to into.size() bytes at `offset`; fewer only at the end of the file. Safe from several threads.
  virtual Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) = 0;
};

class FileWriter {
 public:
  virtual ~FileWriter() = default;  // closes without promising anything; call close() for that
  virtual Status append(std::span<const std::byte> bytes) = 0;
  virtual Status sync() = 0;  // on the disk when this returns ok
  virtual Status close() = 0;
};

struct FileEntry {
  std::string name;  // without the directory
  int64_t size_bytes = 0;
  bool is_directory = false;  // links are followed
  bool is_link = false;       // the name is a symbolic link: whoever descends into these can meet a circle
};

// Paths are the system's. Errors name the path and the system's reason; kNotFound, kExhausted (disk full) are told
// apart.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // Whether names can be changed. Where they cannot (object stores, io/s3/s3_files.h), a file is seen under its name
  // when its writer was closed, whole, and not before; a directory that is to appear whole has a file that is written
  // last.
  virtual bool can_rename(const std::string& path) const {
    static_cast<void>(path);
    return true;
  }
  virtual Result<std::unique_ptr<FileReader>> open(const std::string& path) = 0;
  virtual Result<std::unique_ptr<FileWriter>> create(const std::string& path) = 0;          // truncates
  virtual Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) = 0;  // created where missing
  virtual Status rename(const std::string& from,
                        const std::string& to) = 0;        // atomic; replaces files and empty directories
  virtual Status remove_all(const std::string& path) = 0;  // a missing path is ok
  virtual Status make_directories(const std::string& path) = 0;
  virtual Status sync_directory(const std::string& path) = 0;  // makes renames within it durable
  virtual Result<FileEntry> stat(const std::string& path) = 0;
  virtual Result<std::vector<FileEntry>> list(const std::string& directory) = 0;  // sorted by name
  virtual Result<int64_t> free_bytes(const std::string& path) = 0;
};

FileSystem& local_files();

// Fills `into` completely; a file that ends before is kCorrupt.
Status read_exactly(FileReader& file, int64_t offset, std::span<std::byte> into);

// The whole file as text; refuses more than max_bytes before taking memory.
Result<std::string> read_file(FileSystem& files, const std::string& path, int64_t max_bytes = int64_t{1} << 30);
// Writes beside `path`, syncs, renames: a reader sees the old bytes or the new ones, never a part.
Status write_file_atomically(FileSystem& files, const std::string& path, std::string_view bytes);

}  // namespace colossus
