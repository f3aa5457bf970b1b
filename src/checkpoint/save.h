// What saving a run's checkpoint and making one out of another have in common. Internal to checkpoint.
#pragma once

#include "checkpoint/checkpoint.h"

namespace colossus {

// As save_checkpoint, at `path`.
Status write_checkpoint(FileSystem& files, const std::string& path, const CheckpointState& state,
                        std::span<const CheckpointTensor> tensors, Communicator* ranks);

}  // namespace colossus
