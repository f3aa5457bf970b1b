// For tests only: a small tree of files in memory, so that a reader of files can be given millions of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "io/file_system.h"

namespace colossus {

// Directories are there when a file lies below them. Not thread-safe.
class MemoryFiles final : public FileSystem {
 public:
  // Whatever is there under the path is replaced.
  void put(const std::string& path, std::string_view bytes) { files_[path] = std::string(bytes); }
  const std::string& at(const std::string& path) const { return files_.at(path); }

  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    const auto found = files_.find(path);
    if (found == files_.end()) return missing(path);
    return std::unique_ptr<FileReader>(std::make_unique<Reader>(found->second));
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override {
    files_[path].clear();
    return open_to_append(path);
  }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    return std::unique_ptr<FileWriter>(std::make_unique<Writer>(files_[path]));
  }
  Status rename(const std::string& from, const std::string& to) override {
    const auto found = files_.find(from);
    if (found == files_.end()) return missing(from);
    std::string bytes = std::move(found->second);
    files_.erase(found);
    files_[to] = std::move(bytes);
    return ok_status();
  }
  Status remove_all(const std::string& path) override {
    std::erase_if(files_, [&](const auto& file) { return file.first == path || file.first.starts_with(path + "/"); });
    return ok_status();
  }
  Status make_directories(const std::string&) override { return ok_status(); }
  Status sync_directory(const std::string&) override { return ok_status(); }
  Result<FileEntry> stat(const std::string& path) override {
    const std::string name = path.substr(path.rfind('/') + 1);
    if (const auto found = files_.find(path); found != files_.end())
      return FileEntry{.name = name, .size_bytes = static_cast<int64_t>(found->second.size())};
    const auto below = files_.lower_bound(path + "/");
    if (below == files_.end() || !below->first.starts_with(path + "/")) return missing(path);
    return FileEntry{.name = name, .is_directory = true};
  }
  Result<std::vector<FileEntry>> list(const std::string& directory) override {
    std::vector<FileEntry> entries;
    for (const auto& [path, bytes] : files_) {
      if (!path.starts_with(directory + "/")) continue;
      const std::string below = path.substr(directory.size() + 1), name = below.substr(0, below.find('/'));
      if (!entries.empty() && entries.back().name == name) continue;
      entries.push_back(
          {.name = name, .size_bytes = static_cast<int64_t>(bytes.size()), .is_directory = name.size() < below.size()});
    }
    if (entries.empty()) return missing(directory);
    return entries;
  }
  Result<int64_t> free_bytes(const std::string&) override { return int64_t{1} << 40; }

 private:
  class Reader final : public FileReader {
   public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}
    int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
    Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
      CHECK(offset >= 0);
      if (offset >= size() || into.empty()) return int64_t{0};
      const size_t count = std::min(into.size(), bytes_.size() - static_cast<size_t>(offset));
      std::memcpy(into.data(), bytes_.data() + offset, count);
      return static_cast<int64_t>(count);
    }

   private:
    std::string_view bytes_;
  };
  class Writer final : public FileWriter {
   public:
    explicit Writer(std::string& bytes) : bytes_(bytes) {}
    Status append(std::span<const std::byte> bytes) override {
      bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      return ok_status();
    }
    Status sync() override { return ok_status(); }
    Status close() override { return ok_status(); }

   private:
    std::string& bytes_;
  };

  static Status missing(const std::string& path) { return not_found("[" + path + "] is not there"); }

  std::map<std::string, std::string> files_;
};

}  // namespace colossus
