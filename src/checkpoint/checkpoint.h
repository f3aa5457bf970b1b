// A checkpoint is a directory step-00000200/ with safetensors files and a manifest.json that says which file holds
// which piece of which tensor, with checksums. One rank writes whole tensors; of many ranks each writes a file with its
// own pieces. Any number of ranks reads any part of any tensor from it, whoever wrote it. It is written under another
// name, synced and renamed, so that a kill at any moment leaves the old checkpoints or the new one too, never a mix.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "comm/communicator.h"
#include "io/file_system.h"
#include "tensor/dtype.h"
#include "tensor/placement.h"
#include "tensor/shape.h"

namespace colossus {

// A stored piece's bytes are guarded in blocks of this size (the last one may be shorter), so that a part can be read
// and verified without the rest.
inline constexpr int64_t kCheckpointBlockBytes = 4 << 20;

// What one rank stores of a tensor.
struct CheckpointTensor {
  std::string file;  // "model" or "optimizer": of one rank, model.safetensors holds just the parameters, for others to
                     // read
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;  // of the whole tensor
  Piece piece;  // no two ranks store the same element, and together they store all
  // Fills `into` with the piece's bytes from `offset` on. Called from the thread that writes; an error ends the save.
  std::function<Status(int64_t offset, std::span<std::byte> into)> read;

  int64_t num_bytes() const { return piece.size() * dtype_bytes(dtype); }
};

struct CheckpointState {
  int64_t step = 0;                          // optimizer steps done
  std::optional<double> validation_loss;     // nats per token, when it was measured at this step
  std::map<std::string, std::string> texts;  // small files beside the tensors: "config.toml", "tokenizer.json"
};

// Writes <directory>/step-XXXXXXXX. Fails without a trace but a *.tmp directory, which the next save removes. A
// checkpoint of this step that was there becomes *.replaced and goes last; that it cannot be removed is no failure, and
// the next save removes it.
//
// With `ranks` of more than one all of them call it, in a directory that all see, each with its own tensors (maybe
// none) and the same step; the rest of the state is rank 0's. All return the same: ok when the checkpoint is there,
// else the error of the lowest rank that failed, which is named. The timeout of `ranks` is longer than a rank takes to
// write.
Status save_checkpoint(FileSystem& files, const std::string& directory, const CheckpointState& state,
                       std::span<const CheckpointTensor> tensors, Communicator* ranks = nullptr);

class StoredFiles;

struct StoredPiece {
  std::string file_name;  // in the checkpoint's directory: "model-00003-of-00008.safetensors"
  Piece piece;
  std::vector<uint64_t> block_checksums;
};

// A checkpoint opened for reading: the manifest and the texts were read, and every file it names has the size it says.
// Files are opened, and their headers compared with the manifest, when something is first read from them. The
// FileSystem must outlive it. Reading is thread-safe.
class Checkpoint {
 public:
  static Result<Checkpoint> open(FileSystem& files, const std::string& path);
  // The same without a look at the tensors' files: for verify(), which tells of all that is wrong with them.
  static Result<Checkpoint> open_unchecked(FileSystem& files, const std::string& path);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::string& path() const { return path_; }
  const CheckpointState& state() const { return state_; }
  const std::map<std::string, int64_t>& file_bytes() const;  // of the tensors' files, by name
  struct Entry {
    std::string file;
    std::string name;
    DType dtype = DType::kF32;
    Shape shape;
    std::vector<StoredPiece> pieces;  // each element is in exactly one, and each file holds one at most

    int64_t num_bytes() const { return shape.num_elements() * dtype_bytes(dtype); }
  };
  const std::vector<Entry>& tensors() const { return entries_; }  // rising by (file, name)
  const Entry* find(const std::string& file, const std::string& name) const;

  // Of the piece: into.size() must be its size. Just the blocks it touches are read, from whichever files hold them,
  // and each one's checksum is compared. After an error the contents of `into` mean nothing.
  Status read(const Entry& entry, const Piece& piece, std::span<std::byte> into) const;
  // The whole tensor.
  Status read(const Entry& entry, std::span<std::byte> into) const;
  // Hands the piece over in parts, in any order: part(offset in the piece, bytes). Holds one block.
  Status read(const Entry& entry, const Piece& piece,
              FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) const;

  // Reads everything and compares every checksum; the first fault.
  Status verify() const;
  // The same, but goes on behind a fault. Calls next(bytes done so far, ok or the fault) after each block or file; when
  // that returns false, verify does with kInterrupted.
  Status verify(FunctionRef<bool(int64_t num_bytes, const Status& fault)> next) const;

 private:
  Checkpoint();

  std::string path_;
  CheckpointState state_;
  std::vector<Entry> entries_;
  std::unique_ptr<StoredFiles> files_;
};

// The order of Checkpoint::tensors().
inline bool entry_before(const Checkpoint::Entry& a, const Checkpoint::Entry& b) {
  return std::tie(a.file, a.name) < std::tie(b.file, b.name);
}

// Paths of the checkpoints in `directory`, oldest first. Unfinished and foreign entries are left out.
Result<std::vector<std::string>> list_checkpoints(FileSystem& files, const std::string& directory);

// The newest checkpoint that opens; those passed over and why are appended to `skipped`. kNotFound when there is none.
Result<Checkpoint> open_newest_checkpoint(FileSystem& files, const std::string& directory,
                                          std::vector<Status>& skipped);

// Where the checkpoints of `path` lie: a run has them in checkpoints/, or else it is their directory itself.
Result<std::string> directory_of_checkpoints(FileSystem& files, const std::string& path);

// `path` is a checkpoint; or it has some, then as above.
Result<Checkpoint> find_checkpoint(FileSystem& files, const std::string& path, std::vector<Status>& skipped);

// Removes all but the newest keep_last and, if asked, the one with the lowest validation loss; and leftovers of saves
// and removals that were cut short. With `ranks` of more than one all of them call it, rank 0 does it, and all return
// the same.
Status prune_checkpoints(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best,
                         Communicator* ranks = nullptr);

}  // namespace colossus
