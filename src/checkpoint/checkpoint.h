// A checkpoint is a directory step-00000200/ with safetensors files and a manifest.json that names every file, tensor
// and checksum. It is written under another name, synced and renamed, so that a kill at any moment leaves the old
// checkpoints or the new one too, never a mix.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "io/safetensors.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace colossus {

struct CheckpointTensor {
  std::string file;  // "model" or "optimizer": model.safetensors holds just the parameters, for others to read
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  // Fills `into` with the tensor's bytes from `offset` on. Called from the thread that writes.
  std::function<void(int64_t offset, std::span<std::byte> into)> read;

  int64_t num_bytes() const { return shape.num_elements() * dtype_bytes(dtype); }
};

struct CheckpointState {
  int64_t step = 0;                          // optimizer steps done
  std::optional<double> validation_loss;     // nats per token, when it was measured at this step
  std::map<std::string, std::string> texts;  // small files beside the tensors: "config.toml", "tokenizer.json"
};

// Writes <directory>/step-XXXXXXXX. Fails without a trace but a *.tmp directory, which the next save removes. A
// checkpoint of this step that was there becomes *.replaced and goes last; that it cannot be removed is no failure, and
// the next save removes it.
Status save_checkpoint(FileSystem& files, const std::string& directory, const CheckpointState& state,
                       std::span<const CheckpointTensor> tensors);

// A checkpoint opened for reading: the manifest was read and every file it names has the size it says.
class Checkpoint {
 public:
  static Result<Checkpoint> open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  const CheckpointState& state() const { return state_; }
  struct Entry {
    std::string file;
    std::string name;
    DType dtype;
    Shape shape;
    uint64_t checksum;
  };
  const std::vector<Entry>& tensors() const { return entries_; }
  const Entry* find(const std::string& file, const std::string& name) const;
  // The whole tensor; its checksum is compared. into.size() must be its size.
  Status read(const Entry& entry, std::span<std::byte> into) const;
  // Reads everything and compares every checksum.
  Status verify() const;

 private:
  static Result<Checkpoint> open_unguarded(FileSystem& files, const std::string& path);

  std::string path_;
  CheckpointState state_;
  std::map<std::string, SafetensorsFile> files_;
  std::vector<Entry> entries_;
};

// Paths of the checkpoints in `directory`, oldest first. Unfinished and foreign entries are left out.
Result<std::vector<std::string>> list_checkpoints(FileSystem& files, const std::string& directory);

// The newest checkpoint that opens; those passed over and why are appended to `skipped`. kNotFound when there is none.
Result<Checkpoint> open_newest_checkpoint(FileSystem& files, const std::string& directory,
                                          std::vector<Status>& skipped);

// Removes all but the newest keep_last and, if asked, the one with the lowest validation loss; and leftovers of saves
// and removals that were cut short.
Status prune_checkpoints(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best);

}  // namespace colossus
