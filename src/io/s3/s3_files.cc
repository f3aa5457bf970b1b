#include "io/s3/s3_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <mutex>

namespace colossus {
namespace {

constexpr size_t kPartsOfOneSize = 1200;
constexpr size_t kMaxParts = 10'000;

class S3Reader final : public FileReader {
 public:
  S3Reader(S3Client& client, S3Object object, S3ObjectState state)
      : client_(client), object_(std::move(object)), state_(std::move(state)) {}
  int64_t size() const override { return state_.num_bytes; }
  Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
    if (offset < 0) return invalid(fmt::format("[{}] offset {} is negative", object_.key, offset));
    const int64_t count = std::clamp<int64_t>(state_.num_bytes - offset, 0, static_cast<int64_t>(into.size()));
    RETURN_IF_ERROR(client_.get(object_, offset, into.first(static_cast<size_t>(count)), state_.etag));
    return count;
  }

 private:
  S3Client& client_;
  const S3Object object_;
  const S3ObjectState state_;
};

class S3Writer final : public FileWriter {
 public:
  S3Writer(S3Client& client, S3Object object) : client_(client), object_(std::move(object)) {}
  ~S3Writer() override { give_up(); }

  Status append(std::span<const std::byte> bytes) override {
    if (finished_) return invalid(fmt::format("[{}] was closed, or failed before", object_.key));
    while (!bytes.empty()) {
      const auto room =
          static_cast<size_t>(s3_part_bytes(client_.options().first_part_bytes, etags_.size())) - pending_.size();
      // A full part goes when more comes behind it: what fits one part needs no upload in parts.
      if (room == 0) {
        RETURN_IF_ERROR(or_give_up(send_part()));
        continue;
      }
      const auto taken = bytes.first(std::min(room, bytes.size()));
      pending_.insert(pending_.end(), taken.begin(), taken.end());
      bytes = bytes.subspan(taken.size());
    }
    return ok_status();
  }

  Status sync() override { return ok_status(); }

  Status close() override {
    if (finished_) return invalid(fmt::format("[{}] was closed, or failed before", object_.key));
    if (upload_id_.empty()) {
      finished_ = true;
      return client_.put(object_, pending_);
    }
    RETURN_IF_ERROR(or_give_up(send_part()));
    RETURN_IF_ERROR(or_give_up(client_.complete_upload(object_, upload_id_, etags_, num_bytes_)));
    finished_ = true;
    return ok_status();
  }

 private:
  Status send_part() {
    if (etags_.size() == kMaxParts)
      return exhausted(
          fmt::format("[s3://{}/{}] an object has at most {} parts", object_.bucket, object_.key, kMaxParts));
    if (upload_id_.empty()) {
      ASSIGN_OR_RETURN(upload_id_, client_.begin_upload(object_));
    }
    ASSIGN_OR_RETURN(std::string etag,
                     client_.put_part(object_, upload_id_, static_cast<int>(etags_.size()) + 1, pending_));
    etags_.push_back(std::move(etag));
    num_bytes_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
    return ok_status();
  }
  Status or_give_up(Status status) {
    if (!status.ok()) give_up();
    return status;
  }
  // Parts of an upload that is never completed cost money for ever.
  void give_up() {
    if (!finished_ && !upload_id_.empty()) static_cast<void>(client_.abort_upload(object_, upload_id_));
    finished_ = true;
  }

  S3Client& client_;
  const S3Object object_;
  std::vector<std::byte> pending_;
  std::string upload_id_;
  std::vector<std::string> etags_;
  int64_t num_bytes_ = 0;  // in parts that were sent
  bool finished_ = false;
};

std::string directory_prefix(const S3Object& object) { return object.key.empty() ? "" : object.key + "/"; }

class S3Files final : public FileSystem {
 public:
  explicit S3Files(S3Options options) : client_(std::move(options)) {}

  bool can_rename(const std::string&) const override { return false; }

  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    ASSIGN_OR_RETURN(S3Object object, parse_s3_file(path));
    ASSIGN_OR_RETURN(S3ObjectState state, client_.head(object));
    return std::make_unique<S3Reader>(client_, std::move(object), std::move(state));
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override {
    ASSIGN_OR_RETURN(S3Object object, parse_s3_file(path));
    return std::make_unique<S3Writer>(client_, std::move(object));
  }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    return invalid(fmt::format("[{}] objects cannot be appended to; give a local path", path));
  }
  Status rename(const std::string& from, const std::string& to) override {
    return invalid(fmt::format("[{}] objects cannot be renamed (to {})", from, to));
  }
  Status remove_all(const std::string& path) override {
    ASSIGN_OR_RETURN(S3Object object, parse_s3_file(path));
    ASSIGN_OR_RETURN(const S3Listing listing, client_.list({object.bucket, directory_prefix(object)}, ""));
    for (const S3Listing::Object& found : listing.objects) RETURN_IF_ERROR(client_.remove({object.bucket, found.key}));
    return client_.remove(object);
  }
  Status make_directories(const std::string& path) override { return parse_s3_path(path).status(); }
  Status sync_directory(const std::string&) override { return ok_status(); }

  Result<FileEntry> stat(const std::string& path) override {
    ASSIGN_OR_RETURN(const S3Object object, parse_s3_path(path));
    FileEntry entry{.name = object.key.substr(object.key.rfind('/') + 1)};
    if (!object.key.empty()) {
      const auto state = client_.head(object);
      if (state.ok()) {
        entry.size_bytes = state->num_bytes;
        return entry;
      }
      if (state.status().code() != ErrorCode::kNotFound) return state.status();
    }
    ASSIGN_OR_RETURN(const S3Listing inside, client_.list({object.bucket, directory_prefix(object)}, "", 1));
    if (inside.objects.empty() && !object.key.empty()) return not_found(fmt::format("[{}] is not there", path));
    entry.is_directory = true;
    return entry;
  }

  Result<std::vector<FileEntry>> list(const std::string& directory) override {
    ASSIGN_OR_RETURN(const S3Object object, parse_s3_path(directory));
    const std::string prefix = directory_prefix(object);
    ASSIGN_OR_RETURN(const S3Listing listing, client_.list({object.bucket, prefix}, "/"));
    std::vector<FileEntry> entries;
    // Some programs make an empty object "directory/".
    for (const S3Listing::Object& found : listing.objects)
      if (found.key.size() > prefix.size() && found.key.starts_with(prefix))
        entries.push_back({.name = found.key.substr(prefix.size()), .size_bytes = found.num_bytes});
    for (const std::string& deeper : listing.prefixes)
      if (deeper.size() > prefix.size() + 1 && deeper.starts_with(prefix))
        entries.push_back(
            {.name = deeper.substr(prefix.size(), deeper.size() - prefix.size() - 1), .is_directory = true});
    if (entries.empty() && listing.objects.empty() && !object.key.empty())
      return not_found(fmt::format("[{}] is not there", directory));
    std::sort(entries.begin(), entries.end(), [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
    return entries;
  }
  Result<int64_t> free_bytes(const std::string&) override { return std::numeric_limits<int64_t>::max(); }

 private:
  static Result<S3Object> parse_s3_file(const std::string& path) {
    ASSIGN_OR_RETURN(S3Object object, parse_s3_path(path));
    if (object.key.empty()) return invalid(fmt::format("[{}] is a bucket; give s3://bucket/key", path));
    return object;
  }

  S3Client client_;
};

class AllFiles final : public FileSystem {
 public:
  bool can_rename(const std::string& path) const override { return !is_s3_path(path); }
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->open(path);
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->create(path);
  }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->open_to_append(path);
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (is_s3_path(from) != is_s3_path(to)) return invalid(fmt::format("cannot rename {} to {}", from, to));
    ASSIGN_OR_RETURN(FileSystem* const files, of(from));
    return files->rename(from, to);
  }
  Status remove_all(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->remove_all(path);
  }
  Status make_directories(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->make_directories(path);
  }
  Status sync_directory(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->sync_directory(path);
  }
  Result<FileEntry> stat(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->stat(path);
  }
  Result<std::vector<FileEntry>> list(const std::string& directory) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(directory));
    return files->list(directory);
  }
  Result<int64_t> free_bytes(const std::string& path) override {
    ASSIGN_OR_RETURN(FileSystem* const files, of(path));
    return files->free_bytes(path);
  }

 private:
  Result<FileSystem*> of(const std::string& path) {
    if (!is_s3_path(path)) return &local_files();
    const std::lock_guard lock(mutex_);
    if (s3_ == nullptr) {
      ASSIGN_OR_RETURN(S3Options options, s3_options_from_environment());
      s3_ = make_s3_files(std::move(options));
    }
    return s3_.get();
  }

  std::mutex mutex_;
  std::unique_ptr<FileSystem> s3_;
};

}  // namespace

int64_t s3_part_bytes(int64_t first_part_bytes, size_t index) { return first_part_bytes << (index / kPartsOfOneSize); }

std::unique_ptr<FileSystem> make_s3_files(S3Options options) { return std::make_unique<S3Files>(std::move(options)); }

FileSystem& all_files() {
  static AllFiles files;
  return files;
}

}  // namespace colossus
