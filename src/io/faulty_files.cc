#include "io/faulty_files.h"

#include <fmt/format.h>

namespace colossus {

class FaultyReader final : public FileReader {
 public:
  FaultyReader(FaultyFiles& files, std::string path, std::unique_ptr<FileReader> below)
      : files_(files), path_(std::move(path)), below_(std::move(below)) {}

  int64_t size() const override { return below_->size(); }
  Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
    RETURN_IF_ERROR(files_.operation(FaultyFiles::Kind::kRead, "read", path_));
    return below_->read_at(offset, into);
  }

 private:
  FaultyFiles& files_;
  const std::string path_;
  const std::unique_ptr<FileReader> below_;
};

class FaultyWriter final : public FileWriter {
 public:
  FaultyWriter(FaultyFiles& files, std::string path, std::unique_ptr<FileWriter> below)
      : files_(files), path_(std::move(path)), below_(std::move(below)) {}

  Status append(std::span<const std::byte> bytes) override {
    bool half = false;
    const Status fate = files_.operation(FaultyFiles::Kind::kNeedsSpace, "append to", path_, &half);
    if (half) RETURN_IF_ERROR(below_->append(bytes.first(bytes.size() / 2)));
    RETURN_IF_ERROR(fate);
    return below_->append(bytes);
  }
  Status sync() override {
    // Space is often given only when the bytes are really written.
    RETURN_IF_ERROR(files_.operation(FaultyFiles::Kind::kNeedsSpace, "sync", path_));
    return below_->sync();
  }
  Status close() override {
    RETURN_IF_ERROR(files_.operation(FaultyFiles::Kind::kWrite, "close", path_));
    return below_->close();
  }

 private:
  FaultyFiles& files_;
  const std::string path_;
  const std::unique_ptr<FileWriter> below_;
};

void FaultyFiles::arm(int64_t at_operation, Fault fault) {
  const std::lock_guard lock(mutex_);
  operations_ = 0;
  at_operation_ = at_operation;
  fault_ = fault;
}

int64_t FaultyFiles::operations() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

bool FaultyFiles::fired() const {
  const std::lock_guard lock(mutex_);
  return fault_ != Fault::kNone && operations_ > at_operation_;
}

Status FaultyFiles::operation(Kind kind, const char* name, const std::string& path, bool* half) {
  const std::lock_guard lock(mutex_);
  const bool counted = kind != Kind::kRead || count_reads_;
  const int64_t current = counted ? operations_++ : operations_ - 1;
  if (fault_ == Fault::kNone || current < at_operation_) return ok_status();
  const std::string place = fmt::format("cannot {} {}: ", name, path);
  switch (fault_) {
    case Fault::kNone: break;
    case Fault::kError:
      if (counted && current == at_operation_) return unavailable(place + "Input/output error (injected)");
      break;
    case Fault::kShortWrite:
      if (half != nullptr && current == at_operation_) *half = true;
      [[fallthrough]];
    case Fault::kDiskFull:
      if (kind == Kind::kNeedsSpace) return exhausted(place + "No space left on device (injected)");
      break;
    case Fault::kKilled: return interrupted(place + "the process was killed (injected)");
  }
  return ok_status();
}

Result<std::unique_ptr<FileReader>> FaultyFiles::open(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kRead, "open", path));
  ASSIGN_OR_RETURN(auto below, below_.open(path));
  return std::unique_ptr<FileReader>(std::make_unique<FaultyReader>(*this, path, std::move(below)));
}

Result<std::unique_ptr<FileWriter>> FaultyFiles::create(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kNeedsSpace, "create", path));
  ASSIGN_OR_RETURN(auto below, below_.create(path));
  return std::unique_ptr<FileWriter>(std::make_unique<FaultyWriter>(*this, path, std::move(below)));
}

Result<std::unique_ptr<FileWriter>> FaultyFiles::open_to_append(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kNeedsSpace, "append to", path));
  ASSIGN_OR_RETURN(auto below, below_.open_to_append(path));
  return std::unique_ptr<FileWriter>(std::make_unique<FaultyWriter>(*this, path, std::move(below)));
}

Status FaultyFiles::rename(const std::string& from, const std::string& to) {
  RETURN_IF_ERROR(operation(Kind::kWrite, "rename", from));
  return below_.rename(from, to);
}

Status FaultyFiles::remove_all(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kWrite, "remove", path));
  return below_.remove_all(path);
}

Status FaultyFiles::make_directories(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kNeedsSpace, "make the directory", path));
  return below_.make_directories(path);
}

Status FaultyFiles::sync_directory(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kWrite, "sync the directory", path));
  return below_.sync_directory(path);
}

Result<FileEntry> FaultyFiles::stat(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kRead, "look at", path));
  return below_.stat(path);
}

Result<std::vector<FileEntry>> FaultyFiles::list(const std::string& directory) {
  RETURN_IF_ERROR(operation(Kind::kRead, "list", directory));
  return below_.list(directory);
}

Result<int64_t> FaultyFiles::free_bytes(const std::string& path) {
  RETURN_IF_ERROR(operation(Kind::kRead, "ask for the free space of", path));
  return below_.free_bytes(path);
}

}  // namespace colossus
