#include "checkpoint/stored_files.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/manifest.h"
#include "io/checksum.h"

namespace colossus {
namespace {

// A process may have about a thousand; thousands of ranks may have written.
constexpr size_t kMaxOpenFiles = 64;

}  // namespace

StoredFiles::StoredFiles(FileSystem& files, std::string path, std::map<std::string, int64_t> file_bytes,
                         std::span<const Checkpoint::Entry> entries)
    : files_(files), path_(std::move(path)), file_bytes_(std::move(file_bytes)) {
  for (const Checkpoint::Entry& entry : entries)
    for (const StoredPiece& stored : entry.pieces) contents_[stored.file_name].push_back({&entry, &stored});
}

Status StoredFiles::check_sizes() const {
  for (const auto& [name, bytes] : file_bytes_) {
    ASSIGN_OR_RETURN(const FileEntry on_disk, files_.stat(path_of(name)));
    if (on_disk.size_bytes != bytes)
      return corrupt(
          fmt::format("[{}] is {} bytes long; the manifest says {}", path_of(name), on_disk.size_bytes, bytes));
  }
  return ok_status();
}

Status StoredFiles::check_header(const std::string& name) { return open(name).status(); }

Status StoredFiles::read_block(const Checkpoint::Entry& entry, const StoredPiece& stored, int64_t index,
                               std::vector<std::byte>& into) {
  ASSIGN_OR_RETURN(const OpenFile file, open(stored.file_name));
  const SafetensorsEntry* tensor = file->find(entry.name);
  CHECK(tensor != nullptr);  // the header was compared
  const int64_t begin = index * kCheckpointBlockBytes;
  const int64_t end = std::min(begin + kCheckpointBlockBytes, tensor->size_bytes);
  into.resize(static_cast<size_t>(end - begin));
  RETURN_IF_ERROR(file->read(*tensor, begin, into));
  if (checksum(into) == stored.block_checksums[static_cast<size_t>(index)]) return ok_status();
  return corrupt(
      fmt::format("[{}] tensor {} was altered in block {} (bytes {} to {} of it): its checksum does not match; use an "
                  "earlier checkpoint",
                  path_of(stored.file_name), entry.name, index, begin, end));
}

Result<StoredFiles::OpenFile> StoredFiles::open(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(open_.begin(), open_.end(), [&](const auto& file) { return file.first == name; });
  if (found != open_.end()) {
    open_.splice(open_.begin(), open_, found);
    return found->second;
  }
  ASSIGN_OR_RETURN(OpenFile file, open_and_check(name));
  if (open_.size() == kMaxOpenFiles) open_.pop_back();
  open_.emplace_front(name, file);
  return file;
}

Result<StoredFiles::OpenFile> StoredFiles::open_and_check(const std::string& name) const {
  const std::string path = path_of(name);
  // Before the header is believed: what has another size is cut, or another file.
  ASSIGN_OR_RETURN(const FileEntry on_disk, files_.stat(path));
  if (on_disk.size_bytes != file_bytes_.at(name))
    return corrupt(
        fmt::format("[{}] is {} bytes long; the manifest says {}", path, on_disk.size_bytes, file_bytes_.at(name)));
  ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(files_, path));
  if (file.metadata() != checkpoint_file_metadata())
    return corrupt(fmt::format("[{}] was altered: its header is not as a checkpoint's", path));
  const auto listed = contents_.find(name);
  const std::span<const Content> contents =
      listed == contents_.end() ? std::span<const Content>() : std::span(listed->second);
  if (file.tensors().size() != contents.size())
    return corrupt(
        fmt::format("[{}] holds {} tensors; the manifest names {}", path, file.tensors().size(), contents.size()));
  for (const auto& [entry, stored] : contents) {
    const SafetensorsEntry* tensor = file.find(entry->name);
    if (tensor == nullptr) return corrupt(fmt::format("[{}] lacks the manifest's tensor {}", path, entry->name));
    if (tensor->dtype != safetensors_word(entry->dtype) || tensor->shape != stored_shape(stored->piece))
      return corrupt(fmt::format("[{}] tensor {} has another type or shape than the manifest says", path, entry->name));
  }
  return OpenFile(std::make_shared<const SafetensorsFile>(std::move(file)));
}

}  // namespace colossus
