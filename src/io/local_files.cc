#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "io/file_system.h"

namespace colossus {
namespace {

// One transfer asks for at most this much: Linux cuts longer ones anyway.
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

Status system_error(const std::string& path, const char* action, int error) {
  const std::string message = fmt::format("cannot {} {}: {}", action, path, std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR: return not_found(message);
    case ENOSPC:
    case EDQUOT: return exhausted(message + "; free some space and run the command again");
    case EFBIG:
    case EMFILE:
    case ENFILE: return exhausted(message);
    case EISDIR:
    case ENOTEMPTY:
    case EEXIST:
    case ENAMETOOLONG:
    case EINVAL: return invalid(message);
    default: return unavailable(message);
  }
}

class LocalReader final : public FileReader {
 public:
  LocalReader(std::string path, int descriptor, int64_t size)
      : path_(std::move(path)), descriptor_(descriptor), size_(size) {}
  ~LocalReader() override { ::close(descriptor_); }

  int64_t size() const override { return size_; }

  Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
    if (offset < 0) return invalid(fmt::format("cannot read {}: offset {} is negative", path_, offset));
    size_t done = 0;
    while (done < into.size()) {
      const size_t want = std::min(into.size() - done, kMaxTransferBytes);
      const ssize_t got = ::pread(descriptor_, into.data() + done, want, offset + static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error(path_, "read", errno);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return static_cast<int64_t>(done);
  }

 private:
  const std::string path_;
  const int descriptor_;
  const int64_t size_;
};

class LocalWriter final : public FileWriter {
 public:
  LocalWriter(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  ~LocalWriter() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  Status append(std::span<const std::byte> bytes) override {
    if (descriptor_ < 0) return invalid(fmt::format("cannot write {}: it is closed", path_));
    while (!bytes.empty()) {
      const ssize_t put = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMaxTransferBytes));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return system_error(path_, "write", errno);
      bytes = bytes.subspan(static_cast<size_t>(put));
      unstarted_bytes_ += put;
    }
    // The disk begins while the writer makes more, and a sync at the end has little left to wait for. A hint: what goes
    // wrong with the bytes is told by the sync.
    if (unstarted_bytes_ >= kWriteBackBytes) {
      static_cast<void>(::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE));
      unstarted_bytes_ = 0;
    }
    return ok_status();
  }

  Status sync() override {
    if (descriptor_ < 0) return invalid(fmt::format("cannot sync {}: it is closed", path_));
    // Pipes and devices cannot be synced; there is nothing to lose in them.
    if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) return system_error(path_, "sync", errno);
    return ok_status();
  }

  Status close() override {
    if (descriptor_ < 0) return ok_status();
    const int result = ::close(std::exchange(descriptor_, -1));
    if (result != 0 && errno != EINTR) return system_error(path_, "close", errno);
    return ok_status();
  }

 private:
  static constexpr int64_t kWriteBackBytes = 16 << 20;

  const std::string path_;
  int descriptor_;
  int64_t unstarted_bytes_ = 0;
};

Result<FileEntry> entry_of(const std::string& path, std::string name) {
  struct stat link {};
  if (::lstat(path.c_str(), &link) != 0) return system_error(path, "look at", errno);
  struct stat target = link;
  if (S_ISLNK(link.st_mode) && ::stat(path.c_str(), &target) != 0) return system_error(path, "follow", errno);
  return FileEntry{.name = std::move(name),
                   .size_bytes = target.st_size,
                   .is_directory = S_ISDIR(target.st_mode),
                   .is_link = S_ISLNK(link.st_mode)};
}

std::string last_part(const std::string& path) {
  size_t end = path.size();
  while (end > 1 && path[end - 1] == '/') --end;
  const size_t slash = path.rfind('/', end - 1);
  return slash == std::string::npos || end == 1 ? path.substr(0, end) : path.substr(slash + 1, end - slash - 1);
}

class LocalFiles final : public FileSystem {
 public:
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return system_error(path, "open", errno);
    struct stat about {};
    const bool known = ::fstat(descriptor, &about) == 0;
    const int error = !known ? errno : S_ISDIR(about.st_mode) ? EISDIR : 0;
    if (error != 0) {
      ::close(descriptor);
      return system_error(path, "open", error);
    }
    return std::unique_ptr<FileReader>(std::make_unique<LocalReader>(path, descriptor, about.st_size));
  }

  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override {
    return open_writer(path, O_TRUNC, "create");
  }

  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    return open_writer(path, O_APPEND, "append to");
  }

  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0)
      return system_error(from, ("rename to " + to + " from").c_str(), errno);
    return ok_status();
  }

  Status remove_all(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return system_error(path, "remove", error.value());
    return ok_status();
  }

  Status make_directories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return system_error(path, "make the directory", error.value());
    return ok_status();
  }

  Status sync_directory(const std::string& path) override {
    const int descriptor = ::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return system_error(path, "open the directory", errno);
    const int error = ::fsync(descriptor) != 0 ? errno : 0;
    ::close(descriptor);
    // Some network file systems cannot sync a directory and say so with EINVAL.
    if (error != 0 && error != EINVAL) return system_error(path, "sync the directory", error);
    return ok_status();
  }

  Result<FileEntry> stat(const std::string& path) override { return entry_of(path, last_part(path)); }

  Result<std::vector<FileEntry>> list(const std::string& directory) override {
    DIR* stream = ::opendir(directory.empty() ? "." : directory.c_str());
    if (stream == nullptr) return system_error(directory, "list the directory", errno);
    std::vector<FileEntry> entries;
    errno = 0;
    while (const dirent* found = ::readdir(stream)) {
      const std::string name = found->d_name;
      if (name == "." || name == "..") continue;
      // A link to nothing, or a file removed since: still a name in the directory.
      auto entry = entry_of(directory.empty() ? name : directory + "/" + name, name);
      entries.push_back(entry.ok() ? std::move(entry).value() : FileEntry{.name = name, .is_link = true});
      errno = 0;
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return system_error(directory, "list the directory", error);
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
  }

  Result<int64_t> free_bytes(const std::string& path) override {
    struct statvfs about {};
    if (::statvfs(path.c_str(), &about) != 0) return system_error(path, "ask for the free space of", errno);
    return static_cast<int64_t>(about.f_bavail) * static_cast<int64_t>(about.f_frsize);
  }

 private:
  Result<std::unique_ptr<FileWriter>> open_writer(const std::string& path, int flags, const char* action) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (descriptor < 0) return system_error(path, action, errno);
    return std::unique_ptr<FileWriter>(std::make_unique<LocalWriter>(path, descriptor));
  }
};

}  // namespace

FileSystem& local_files() {
  static FileSystem* const files = new LocalFiles;  // never destroyed: destructors of other statics remove files
  return *files;
}

}  // namespace colossus
