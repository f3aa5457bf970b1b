// A checkpoint that many ranks wrote, made one that any program reads.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

struct ConsolidateOptions {
  bool model_only = false;  // parameters without the optimizer's state: to use the model, not to train on
  // Called with the bytes of tensors read so far; false stops it (kInterrupted).
  std::function<bool(int64_t num_bytes)> progress;
};

// Writes checkpoint `from`, of any layout, to the new directory `to` as one rank would have: model.safetensors and
// optimizer.safetensors with whole tensors. Everything read is verified. Memory: at most 256 MiB, whatever the tensors'
// sizes. `to` appears whole or not at all.
Status consolidate_checkpoint(FileSystem& files, const std::string& from, const std::string& to,
                              const ConsolidateOptions& options = {});

}  // namespace colossus
