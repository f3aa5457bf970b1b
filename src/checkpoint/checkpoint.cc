#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "checkpoint/coverage.h"
#include "checkpoint/manifest.h"
#include "checkpoint/stored_files.h"
#include "io/checksum.h"

namespace colossus {

Checkpoint::Checkpoint() = default;
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::open(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, open_unchecked(files, path));
  RETURN_IF_ERROR(checkpoint.files_->check_sizes());
  return checkpoint;
}

Result<Checkpoint> Checkpoint::open_unchecked(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(Manifest manifest, read_manifest(files, path));
  if (const Status complete = check_complete(manifest); !complete.ok()) return complete.at(path + "/" + kManifestName);
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  checkpoint.state_.step = manifest.step;
  checkpoint.state_.validation_loss = manifest.validation_loss;
  for (const auto& [name, sum] : manifest.texts) {
    ASSIGN_OR_RETURN(std::string text, read_file(files, path + "/" + name));
    if (checksum(text) != sum)
      return corrupt(fmt::format("[{}/{}] was cut or altered: its checksum does not match", path, name));
    checkpoint.state_.texts[name] = std::move(text);
  }
  // A vector's elements stay where they are when it is moved, with the checkpoint, from here on.
  checkpoint.entries_ = std::move(manifest.tensors);
  checkpoint.files_ = std::make_unique<StoredFiles>(files, path, std::move(manifest.files), checkpoint.entries_);
  return checkpoint;
}

const std::map<std::string, int64_t>& Checkpoint::file_bytes() const { return files_->file_bytes(); }

const Checkpoint::Entry* Checkpoint::find(const std::string& file, const std::string& name) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), std::tie(file, name),
      [](const Entry& entry, const auto& wanted) { return std::tie(entry.file, entry.name) < wanted; });
  return found != entries_.end() && found->file == file && found->name == name ? &*found : nullptr;
}

Status Checkpoint::read(const Entry& entry, const Piece& piece,
                        FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) const {
  const Status inside = check_piece(entry.shape, piece);
  CHECK(inside.ok(), inside.message().c_str());
  const int64_t element_bytes = dtype_bytes(entry.dtype);
  // Kept for the next call: clearing fresh pages for each block costs more than reading it.
  static thread_local std::vector<std::byte> block;
  Status status;
  for (const StoredPiece& stored : entry.pieces) {
    int64_t index = -1;  // of `block`; runs rise, so each block is read once
    for_each_common_run(stored.piece, piece, [&](int64_t in_stored, int64_t in_piece, int64_t count) {
      const int64_t end = (in_stored + count) * element_bytes;
      for (int64_t at = in_stored * element_bytes, offset = in_piece * element_bytes; at < end && status.ok();) {
        if (at / kCheckpointBlockBytes != index) {
          index = at / kCheckpointBlockBytes;
          status = files_->read_block(entry, stored, index, block);
          if (!status.ok()) return;
        }
        const int64_t in_block = at - index * kCheckpointBlockBytes;
        const int64_t num_bytes = std::min(end - at, static_cast<int64_t>(block.size()) - in_block);
        part(offset, std::span(block).subspan(static_cast<size_t>(in_block), static_cast<size_t>(num_bytes)));
        at += num_bytes;
        offset += num_bytes;
      }
    });
    RETURN_IF_ERROR(status);
  }
  return ok_status();
}

Status Checkpoint::read(const Entry& entry, const Piece& piece, std::span<std::byte> into) const {
  CHECK(static_cast<int64_t>(into.size()) == piece.size() * dtype_bytes(entry.dtype));
  return read(entry, piece, [&](int64_t offset, std::span<const std::byte> bytes) {
    std::memcpy(into.data() + offset, bytes.data(), bytes.size());
  });
}

Status Checkpoint::read(const Entry& entry, std::span<std::byte> into) const {
  return read(entry, whole_piece(entry.shape), into);
}

Status Checkpoint::verify() const {
  Status first;
  const Status done = verify([&](int64_t, const Status& fault) {
    first = fault;
    return fault.ok();
  });
  return first.ok() ? done : first;
}

Status Checkpoint::verify(FunctionRef<bool(int64_t num_bytes, const Status& fault)> next) const {
  const Status stopped = interrupted(fmt::format("[{}] verification was stopped", path_));
  Status first;
  int64_t num_bytes = 0;
  const auto tell = [&](const Status& fault) {
    if (first.ok()) first = fault;
    return next(num_bytes, fault);
  };
  std::map<std::string, bool> readable;  // by file; of one that is not, there is no more to say
  for (const auto& [name, bytes] : file_bytes()) {
    const Status header = files_->check_header(name);
    readable[name] = header.ok();
    if (!tell(header)) return stopped;
  }
  std::vector<std::byte> block;
  for (const Entry& entry : entries_)
    for (const StoredPiece& stored : entry.pieces) {
      if (!readable.at(stored.file_name)) continue;
      for (size_t index = 0; index < stored.block_checksums.size(); ++index) {
        const Status fault = files_->read_block(entry, stored, static_cast<int64_t>(index), block);
        num_bytes += static_cast<int64_t>(block.size());
        if (!tell(fault)) return stopped;
      }
    }
  return first;
}

}  // namespace colossus
