#include "plan/ready_files.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace colossus {
namespace {

class TextReader final : public FileReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) {}
  int64_t size() const override { return static_cast<int64_t>(text_.size()); }
  Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
    const auto begin = static_cast<size_t>(std::clamp<int64_t>(offset, 0, size()));
    const size_t count = std::min(into.size(), text_.size() - begin);
    if (count > 0) std::memcpy(into.data(), text_.data() + begin, count);
    return static_cast<int64_t>(count);
  }

 private:
  std::string_view text_;
};

const ReadyFile* find_ready(const std::string& path) {
  const std::string plain = std::filesystem::path(path).lexically_normal().string();
  const auto table = ready_file_table();
  const auto found = std::ranges::find(table, plain, &ReadyFile::path);
  return found == table.end() ? nullptr : &*found;
}

class LocalAndReadyFiles final : public FileSystem {
 public:
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    auto opened = local_.open(path);
    if (opened.ok() || opened.status().code() != ErrorCode::kNotFound) return opened;
    const ReadyFile* ready = find_ready(path);
    if (!ready) return opened;
    return std::unique_ptr<FileReader>(std::make_unique<TextReader>(ready->text));
  }
  Result<FileEntry> stat(const std::string& path) override {
    auto entry = local_.stat(path);
    if (entry.ok() || entry.status().code() != ErrorCode::kNotFound) return entry;
    const ReadyFile* ready = find_ready(path);
    if (!ready) return entry;
    return FileEntry{.name = std::filesystem::path(path).filename().string(),
                     .size_bytes = static_cast<int64_t>(ready->text.size())};
  }
  bool can_rename(const std::string& path) const override { return local_.can_rename(path); }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override { return local_.create(path); }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    return local_.open_to_append(path);
  }
  Status rename(const std::string& from, const std::string& to) override { return local_.rename(from, to); }
  Status remove_all(const std::string& path) override { return local_.remove_all(path); }
  Status make_directories(const std::string& path) override { return local_.make_directories(path); }
  Status sync_directory(const std::string& path) override { return local_.sync_directory(path); }
  Result<std::vector<FileEntry>> list(const std::string& directory) override { return local_.list(directory); }
  Result<int64_t> free_bytes(const std::string& path) override { return local_.free_bytes(path); }

 private:
  FileSystem& local_ = local_files();
};

}  // namespace

FileSystem& local_and_ready_files() {
  static FileSystem* const files = new LocalAndReadyFiles;  // never destroyed, like local_files()
  return *files;
}

}  // namespace colossus
