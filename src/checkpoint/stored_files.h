// The safetensors files of a checkpoint, opened as they are needed. Internal to checkpoint.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "io/safetensors.h"

namespace colossus {

// Thread-safe.
class StoredFiles {
 public:
  // `entries` stay where they are for as long as this lives.
  StoredFiles(FileSystem& files, std::string path, std::map<std::string, int64_t> file_bytes,
              std::span<const Checkpoint::Entry> entries);

  const std::map<std::string, int64_t>& file_bytes() const { return file_bytes_; }
  // Every file is there and has its size.
  Status check_sizes() const;
  // Opens the file and compares its header with the manifest, if that was not done lately.
  Status check_header(const std::string& name);
  // The block of the piece, verified. `into` becomes as long as the block is.
  Status read_block(const Checkpoint::Entry& entry, const StoredPiece& stored, int64_t index,
                    std::vector<std::byte>& into);

 private:
  struct Content {
    const Checkpoint::Entry* entry;
    const StoredPiece* stored;
  };
  using OpenFile = std::shared_ptr<const SafetensorsFile>;

  std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  Result<OpenFile> open(const std::string& name);
  Result<OpenFile> open_and_check(const std::string& name) const;

  FileSystem& files_;
  const std::string path_;
  const std::map<std::string, int64_t> file_bytes_;
  std::map<std::string, std::vector<Content>> contents_;  // by file
  std::mutex mutex_;
  std::list<std::pair<std::string, OpenFile>> open_;  // the one used last first
};

}  // namespace colossus
