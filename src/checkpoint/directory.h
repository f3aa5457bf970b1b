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

// `path` without slashes at its end, where nothing is yet: the place of a checkpoint that somebody asks for by name.
Result<std::string> new_checkpoint_path(FileSystem& files, const std::string& path);

// Where a checkpoint is written before it is whole: beside its place, or, where names cannot be changed, in it.
std::string unfinished_path(FileSystem& files, const std::string& path);

// Where names cannot be changed, a checkpoint of a step that is there already goes beside it, as "step-00000200.r1" and
// so on, and counts as soon as it has a manifest; the one with the highest number is the step's.
Result<std::string> unused_checkpoint_path(FileSystem& files, const std::string& directory, int64_t step);

// Removes a checkpoint so that a part of it is never taken for one.
Status remove_checkpoint(FileSystem& files, const std::string& path);

// Removes replaced checkpoints whose successors are there.
Status remove_replaced(FileSystem& files, const std::string& directory);

}  // namespace colossus
