#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "comm/key_value_store.h"
#include "io/checksum.h"
#include "io/file_system.h"

namespace colossus {
namespace {

// A value's file: magic, size and checksum of the value, the value. Little-endian, as every machine this runs on.
struct ValueHeader {
  std::array<char, 8> magic = {'c', 'o', 'l', 'o', 'k', 'v', '0', '1'};
  uint64_t size = 0;
  uint64_t checksum = 0;
};

constexpr double kLongestPauseSeconds = 0.02;

std::string encode_value(const std::string& value) {
  const ValueHeader header{.size = value.size(), .checksum = checksum(std::string_view(value))};
  std::string bytes(sizeof(header), '\0');
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes + value;
}

Result<std::string> decode_value(const std::string& path, std::string_view bytes) {
  ValueHeader header;
  if (bytes.size() < sizeof(header)) {
    return corrupt(fmt::format("{} has {} bytes, less than the head of a value; it was cut", path, bytes.size()));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  bytes.remove_prefix(sizeof(header));
  if (header.magic != ValueHeader().magic) return corrupt(fmt::format("{} is not a value of this store", path));
  if (header.size != bytes.size()) {
    return corrupt(fmt::format("{} holds {} bytes of a value of {}", path, bytes.size(), header.size));
  }
  if (header.checksum != checksum(bytes)) return corrupt(fmt::format("{}: the checksum of the value is wrong", path));
  return std::string(bytes);
}

// Differs between any two calls, in any process of any machine.
std::string unique_name() {
  static std::atomic<int64_t> counter = 0;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return fmt::format("{}.{}.{}.{}", host.data(), ::getpid(), counter++,
                     std::chrono::system_clock::now().time_since_epoch().count());
}

// Whoever makes the file holds it. One that lies there unchanged for `lock_seconds` on the clock of who waits for it
// belonged to someone who died: it is taken away, by one waiter at a time, who holds a second such file for that.
// A holder never takes away its lock once half of the time has passed, nor writes: it may be another's by then.
class LockFile {
 public:
  LockFile(std::string path, double lock_seconds) : path_(std::move(path)), lock_seconds_(lock_seconds) {}
  ~LockFile() {
    if (held_ && fresh()) ::unlink(path_.c_str());
  }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  Status acquire() {
    const double began = monotonic_seconds();
    std::string seen;
    double seen_since = began;
    for (double pause = 0.0005;; pause = std::min(2 * pause, kLongestPauseSeconds)) {
      acquired_ = monotonic_seconds();
      ASSIGN_OR_RETURN(held_, make(path_));
      if (held_) return ok_status();
      const std::string now = identity();
      if (now != seen) {
        seen = now;
        seen_since = monotonic_seconds();
      } else if (monotonic_seconds() - seen_since > lock_seconds_) {
        RETURN_IF_ERROR(break_stale(seen));
      }
      // Each holder has its own time to finish; this only ends a wait that never gets its turn.
      if (monotonic_seconds() - began > 10 * lock_seconds_ + 10) {
        return unavailable(fmt::format("could not get the lock {} in {:.0f} s", path_, monotonic_seconds() - began));
      }
      std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    }
  }

  // Asked just before a change: an error once the lock may be another's.
  Status check_ours() {
    overdue_ = !fresh();
    if (!overdue_) return ok_status();
    return unavailable(
        fmt::format("{} was held for more than {:g} s and may be lost; nothing was changed", path_, lock_seconds_ / 2));
  }
  bool overdue() const { return overdue_; }

 private:
  bool fresh() const { return monotonic_seconds() - acquired_ < lock_seconds_ / 2; }

  static Result<bool> make(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0) {
      if (errno == EEXIST) return false;
      const std::string message = fmt::format("cannot make {}: {}", path, std::generic_category().message(errno));
      return errno == ENOSPC || errno == EDQUOT ? exhausted(message) : unavailable(message);
    }
    // Tells two locks of the same place apart; also tells a person whose it is.
    const std::string owner = unique_name();
    const ssize_t written = ::write(descriptor, owner.data(), owner.size());
    const int error = errno;
    ::close(descriptor);
    if (written == static_cast<ssize_t>(owner.size())) return true;
    ::unlink(path.c_str());
    return exhausted(fmt::format("cannot write {}: {}", path, std::generic_category().message(error)));
  }

  // What tells this lock from the next one here; of none: "".
  std::string identity() const {
    struct stat about {};
    if (::stat(path_.c_str(), &about) != 0) return "";
    const Result<std::string> owner = read_file(local_files(), path_, 4096);
    return fmt::format("{}:{}.{}:{}", about.st_ino, about.st_mtim.tv_sec, about.st_mtim.tv_nsec,
                       owner.ok() ? *owner : "");
  }

  Status break_stale(const std::string& stale) {
    if (stale.empty()) return ok_status();
    const std::string breaking = path_ + "~break";
    ASSIGN_OR_RETURN(const bool mine, make(breaking));
    if (mine) {
      if (identity() == stale) ::unlink(path_.c_str());
      ::unlink(breaking.c_str());
      break_refused_since_ = 0;
    } else if (break_refused_since_ == 0) {
      break_refused_since_ = monotonic_seconds();
    } else if (monotonic_seconds() - break_refused_since_ > lock_seconds_) {
      ::unlink(breaking.c_str());  // whoever made it died within two system calls
      break_refused_since_ = 0;
    }
    return ok_status();
  }

  const std::string path_;
  const double lock_seconds_;
  bool held_ = false;
  bool overdue_ = false;
  double acquired_ = 0;
  double break_refused_since_ = 0;
};

class DirectoryStore final : public KeyValueStore {
 public:
  DirectoryStore(std::string directory, double lock_seconds)
      : directory_(std::move(directory)), lock_seconds_(lock_seconds) {}

  Status set(const std::string& key, const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    return locked(key, [&](LockFile& lock) { return replace(key, value, lock); });
  }

  Result<std::optional<std::string>> get(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    return read(key);
  }

  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    bool done = false;
    RETURN_IF_ERROR(locked(key, [&](LockFile& lock) -> Status {
      ASSIGN_OR_RETURN(const std::optional<std::string> found, read(key));
      if (found != expected) return ok_status();
      RETURN_IF_ERROR(replace(key, value, lock));
      done = true;
      return ok_status();
    }));
    return done;
  }

  Status remove(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    return locked(key, [&](LockFile& lock) -> Status {
      RETURN_IF_ERROR(lock.check_ours());
      return local_files().remove_all(path_of(key));
    });
  }

 private:
  // One folder without deeper ones, so that "a" and "a/b" can both be keys; '+' and '~' cannot be in a key.
  std::string path_of(const std::string& key) const {
    std::string name = key;
    for (char& letter : name) {
      if (letter == '/') letter = '+';
    }
    return directory_ + "/" + name;
  }

  template <class Action>
  Status locked(const std::string& key, const Action& action) {
    // Threads of this process need not wait for each other through the disk.
    const std::lock_guard in_process(mutex_);
    constexpr int kAttempts = 3;
    for (int attempt = 1;; ++attempt) {
      LockFile lock(path_of(key) + "~lock", lock_seconds_);
      RETURN_IF_ERROR(lock.acquire());
      Status status = action(lock);
      if (!lock.overdue() || attempt == kAttempts) return status;
    }
  }

  Status replace(const std::string& key, const std::string& value, LockFile& lock) {
    const std::string beside = path_of(key) + "~" + unique_name();
    Status status = write_beside(beside, value);
    if (status.ok()) status = lock.check_ours();
    if (status.ok()) status = local_files().rename(beside, path_of(key));
    if (!status.ok()) static_cast<void>(local_files().remove_all(beside));
    return status;
  }

  static Status write_beside(const std::string& path, const std::string& value) {
    ASSIGN_OR_RETURN(const auto writer, local_files().create(path));
    const std::string bytes = encode_value(value);
    RETURN_IF_ERROR(writer->append(std::as_bytes(std::span(bytes.data(), bytes.size()))));
    RETURN_IF_ERROR(writer->sync());
    return writer->close();
  }

  Result<std::optional<std::string>> read(const std::string& key) const {
    constexpr int kAttempts = 3;
    const std::string path = path_of(key);
    for (int attempt = 1;; ++attempt) {
      const Result<std::string> bytes =
          read_file(local_files(), path, kMaxValueBytes + static_cast<int64_t>(sizeof(ValueHeader)));
      if (bytes.ok()) {
        ASSIGN_OR_RETURN(std::string value, decode_value(path, *bytes));
        return std::optional(std::move(value));
      }
      if (bytes.status().code() == ErrorCode::kNotFound) return std::optional<std::string>();
      // On NFS a file that another machine replaces between open and read is "stale": the new one is there.
      if (bytes.status().code() != ErrorCode::kUnavailable || attempt == kAttempts) return bytes.status();
      std::this_thread::sleep_for(std::chrono::duration<double>(kLongestPauseSeconds));
    }
  }

  const std::string directory_;
  const double lock_seconds_;
  std::mutex mutex_;
};

}  // namespace

Result<std::unique_ptr<KeyValueStore>> open_directory_store(const std::string& directory, double lock_seconds) {
  RETURN_IF_ERROR(local_files().make_directories(directory));
  ASSIGN_OR_RETURN(const FileEntry entry, local_files().stat(directory));
  if (!entry.is_directory) return invalid(directory + " is not a directory");
  return std::unique_ptr<KeyValueStore>(std::make_unique<DirectoryStore>(directory, lock_seconds));
}

}  // namespace colossus
