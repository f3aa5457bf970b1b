// A checkpoint too large to begin again when its writing was cut short.
#pragma once

#include <functional>
#include <string>

#include "checkpoint/checkpoint.h"

namespace colossus {

struct StreamSaveOptions {
  // Of what the tensors are made from (one line): where it is the same, files that an earlier try finished stay.
  std::string identity;
  int64_t max_file_bytes = int64_t{4} << 30;  // of tensors in a file; a larger tensor has one of its own
  // Called with the bytes done, those of earlier tries included; false stops it (kInterrupted).
  std::function<bool(int64_t num_bytes)> progress;
};

// Writes the tensors, all whole, as a checkpoint at `path`, where nothing is yet, in files
// model-00001-of-0000N.safetensors of the tensors in their order. Until it is there, what is written stays in
// <path>.tmp, also after an error. Local disks only.
Status stream_checkpoint(FileSystem& files, const std::string& path, const CheckpointState& state,
                         std::span<const CheckpointTensor> tensors, const StreamSaveOptions& options);

}  // namespace colossus
