// Names in a directory of checkpoints. Internal to checkpoint.
#pragma once

#include <string>
#include <string_view>

#include "io/file_system.h"

namespace colossus {

std::string checkpoint_directory_name(int64_t step);  // "step-00000200"

// A checkpoint that another of the same step is about to replace, see write_checkpoint.
inline constexpr std::string_view kReplacedSuffix = ".replaced";
// One being written.
inline constexpr std::string_view kUnfinishedSuffix = ".tmp";

// Removes replaced checkpoints whose successors are there.
Status remove_replaced(FileSystem& files, const std::string& directory);

}  // namespace colossus
