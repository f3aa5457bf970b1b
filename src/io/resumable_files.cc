#include "io/resumable_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "io/checksum.h"

namespace colossus {
namespace {

constexpr const char* kRecordSuffix = ".done";
constexpr const char* kPartSuffix = ".part";
constexpr int64_t kMaxRecordBytes = int64_t{512} << 20;
constexpr size_t kGuardBytes = 17;  // 16 digits and a line break

std::string guard_of(std::string_view body) { return fmt::format("{:016x}\n", checksum(body)); }

// identity, bytes of the file, record; the last line guards what is before it.
std::string record_text(const std::string& identity, int64_t file_bytes, const std::string& record) {
  const std::string body = fmt::format("{}\n{}\n{}\n", identity, file_bytes, record);
  return body + guard_of(body);
}

// The record of a file that is there as it was written; nothing where it has to be written.
std::optional<std::string> find_record(FileSystem& files, const std::string& path, const std::string& identity) {
  const auto text = read_file(files, path + kRecordSuffix, kMaxRecordBytes);
  const auto on_disk = files.stat(path);
  if (!text.ok() || !on_disk.ok() || text->size() < kGuardBytes) return std::nullopt;
  const std::string_view body = std::string_view(*text).substr(0, text->size() - kGuardBytes);
  if (guard_of(body) != std::string_view(*text).substr(body.size())) return std::nullopt;
  const std::string head = fmt::format("{}\n{}\n", identity, on_disk->size_bytes);
  if (!body.starts_with(head)) return std::nullopt;
  return std::string(body.substr(head.size(), body.size() - head.size() - 1));
}

// Writes blocks on a thread of its own, in their order, while the next are made.
class WriteBehind {
 public:
  explicit WriteBehind(SafetensorsWriter& writer) : writer_(writer), thread_([this] { run(); }) {}
  ~WriteBehind() { static_cast<void>(finish()); }

  // A block to fill; waits until one is free. It keeps the size it had.
  std::vector<std::byte> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !free_.empty() || num_blocks_ < kNumBlocks; });
    if (free_.empty()) {
      ++num_blocks_;
      return {};
    }
    std::vector<std::byte> block = std::move(free_.back());
    free_.pop_back();
    return block;
  }
  // An error is of this block or one before: nothing behind it was written.
  Status give(std::vector<std::byte> block) {
    const std::lock_guard lock(mutex_);
    full_.push_back(std::move(block));
    changed_.notify_all();
    return status_;
  }
  // All that was given is written, or the first error.
  Status finish() {
    if (!thread_.joinable()) return status_;
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    thread_.join();
    return status_;
  }

 private:
  static constexpr int kNumBlocks = 8;

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return !full_.empty() || ended_; });
      if (full_.empty()) return;
      std::vector<std::byte> block = std::move(full_.front());
      full_.pop_front();
      if (status_.ok()) {
        lock.unlock();
        Status written = writer_.append(block);
        lock.lock();
        status_ = std::move(written);
      }
      free_.push_back(std::move(block));
      changed_.notify_all();
    }
  }

  SafetensorsWriter& writer_;  // the thread's until finish()
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<std::byte>> full_;
  std::vector<std::vector<std::byte>> free_;
  int num_blocks_ = 0;
  bool ended_ = false;
  Status status_;
  std::thread thread_;  // last: it uses what is above
};

class Writing {
 public:
  Writing(FileSystem& files, const std::string& directory, const ResumeOptions& options)
      : files_(files), directory_(directory), options_(options) {}

  Status write(const FileToWrite& file) {
    const std::string path = directory_ + "/" + file.name;
    if (const auto record = find_record(files_, path, options_.identity); record && file.recall(*record).ok()) {
      for (const TensorToWrite& tensor : file.tensors) {
        ASSIGN_OR_RETURN(const int64_t bytes, safetensors_tensor_bytes(tensor.spec.dtype, tensor.spec.shape));
        done_bytes_ += bytes;
      }
      return tell();
    }
    RETURN_IF_ERROR(files_.remove_all(path + kRecordSuffix));
    ASSIGN_OR_RETURN(const int64_t file_bytes, write_part(file, path + kPartSuffix));
    RETURN_IF_ERROR(files_.rename(path + kPartSuffix, path));
    RETURN_IF_ERROR(files_.sync_directory(directory_));
    return write_file_atomically(files_, path + kRecordSuffix,
                                 record_text(options_.identity, file_bytes, file.record()));
  }

 private:
  Status tell() const {
    return options_.progress && !options_.progress(done_bytes_) ? interrupted("stopped") : ok_status();
  }

  Result<int64_t> write_part(const FileToWrite& file, const std::string& path) {
    std::vector<SafetensorsSpec> specs;
    for (const TensorToWrite& tensor : file.tensors) specs.push_back(tensor.spec);
    ASSIGN_OR_RETURN(SafetensorsWriter writer,
                     SafetensorsWriter::create(files_, path, std::move(specs), file.metadata));
    WriteBehind behind(writer);
    for (const TensorToWrite& tensor : file.tensors) {
      ASSIGN_OR_RETURN(const int64_t bytes, safetensors_tensor_bytes(tensor.spec.dtype, tensor.spec.shape));
      for (int64_t at = 0; at < bytes; at += options_.block_bytes) {
        RETURN_IF_ERROR(tell());
        std::vector<std::byte> block = behind.take();
        block.resize(static_cast<size_t>(std::min(options_.block_bytes, bytes - at)));
        RETURN_IF_ERROR(tensor.read(at, block));
        done_bytes_ += static_cast<int64_t>(block.size());
        RETURN_IF_ERROR(behind.give(std::move(block)));
      }
    }
    RETURN_IF_ERROR(behind.finish());
    RETURN_IF_ERROR(tell());
    RETURN_IF_ERROR(writer.finish());
    return writer.file_bytes();
  }

  FileSystem& files_;
  const std::string& directory_;
  const ResumeOptions& options_;
  int64_t done_bytes_ = 0;
};

}  // namespace

Status write_resumable(FileSystem& files, const std::string& directory, std::span<const FileToWrite> to_write,
                       const ResumeOptions& options) {
  CHECK(options.identity.find('\n') == std::string::npos);
  Writing writing(files, directory, options);
  for (const FileToWrite& file : to_write) RETURN_IF_ERROR(writing.write(file));
  return ok_status();
}

Status forget_records(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto entries, files.list(directory));
  for (const FileEntry& entry : entries)
    if (entry.name.ends_with(kRecordSuffix)) RETURN_IF_ERROR(files.remove_all(directory + "/" + entry.name));
  return ok_status();
}

}  // namespace colossus
