// What saving a run's checkpoint and making one out of another have in common. Internal to checkpoint.
#pragma once

#include "checkpoint/checkpoint.h"

namespace colossus {

// As save_checkpoint, at `path`.
Status write_checkpoint(FileSystem& files, const std::string& path, const CheckpointState& state,
                        std::span<const CheckpointTensor> tensors, Communicator* ranks);

// The last steps of a save: in directory `unfinished` are all tensors' files, and `parts` tell of them; `path` is the
// checkpoint's when it is there. For file systems that rename.
Status finish_checkpoint(FileSystem& files, const std::string& unfinished, const std::string& path,
                         const CheckpointState& state, std::vector<std::string> parts);

}  // namespace colossus
