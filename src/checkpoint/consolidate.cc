#include "checkpoint/consolidate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/save.h"

namespace colossus {
namespace {

constexpr int64_t kMaxWindowBytes = int64_t{256} << 20;

// Reads a checkpoint's tensors from front to back. Where columns lie in many pieces, few bytes in a row touch a block
// of each: a window with room for a block of every piece, if it may be that large, is read at once. Then no block is
// read more than about twice.
class FrontToBack {
 public:
  FrontToBack(const Checkpoint& checkpoint, const std::function<bool(int64_t)>& progress)
      : checkpoint_(checkpoint), progress_(progress) {}

  Status read(const Checkpoint::Entry& entry, int64_t offset, std::span<std::byte> into) {
    while (!into.empty()) {
      if (entry_ != &entry || offset < begin_ || offset >= begin_ + static_cast<int64_t>(window_.size()))
        RETURN_IF_ERROR(fill(entry, offset));
      const auto part = std::span(window_).subspan(static_cast<size_t>(offset - begin_));
      const size_t num_bytes = std::min(into.size(), part.size());
      std::memcpy(into.data(), part.data(), num_bytes);
      into = into.subspan(num_bytes);
      offset += static_cast<int64_t>(num_bytes);
    }
    return ok_status();
  }

 private:
  Status fill(const Checkpoint::Entry& entry, int64_t offset) {
    if (progress_ && !progress_(num_bytes_)) return interrupted("stopped");
    const int64_t wanted = static_cast<int64_t>(entry.pieces.size()) * kCheckpointBlockBytes;
    const int64_t num_bytes = std::min({wanted, kMaxWindowBytes, entry.num_bytes() - offset});
    const int64_t element = dtype_bytes(entry.dtype);
    Piece piece = whole_piece(entry.shape);
    piece.begin = offset / element;
    piece.end = (offset + num_bytes) / element;
    entry_ = nullptr;
    window_.resize(static_cast<size_t>(num_bytes));
    RETURN_IF_ERROR(checkpoint_.read(entry, piece, std::span(window_)));
    entry_ = &entry;
    begin_ = offset;
    num_bytes_ += num_bytes;
    return ok_status();
  }

  const Checkpoint& checkpoint_;
  const std::function<bool(int64_t)>& progress_;
  const Checkpoint::Entry* entry_ = nullptr;  // of window_; none: nothing is in it
  int64_t begin_ = 0;
  std::vector<std::byte> window_;
  int64_t num_bytes_ = 0;
};

}  // namespace

Status consolidate_checkpoint(FileSystem& files, const std::string& from, const std::string& to,
                              const ConsolidateOptions& options) {
  ASSIGN_OR_RETURN(const std::string path, new_checkpoint_path(files, to));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(files, from));
  FrontToBack reader(checkpoint, options.progress);
  std::vector<CheckpointTensor> tensors;
  for (const Checkpoint::Entry& entry : checkpoint.tensors()) {
    if (options.model_only && entry.file != "model") continue;
    tensors.push_back({.file = entry.file,
                       .name = entry.name,
                       .dtype = entry.dtype,
                       .shape = entry.shape,
                       .piece = whole_piece(entry.shape),
                       .read = [&reader, &entry](int64_t offset, std::span<std::byte> into) {
                         return reader.read(entry, offset, into);
                       }});
  }
  const Status written = write_checkpoint(files, path, checkpoint.state(), tensors, nullptr);
  // Nobody saves here again and clears away what is half done.
  if (!written.ok()) static_cast<void>(files.remove_all(unfinished_path(files, path)));
  return written;
}

}  // namespace colossus
