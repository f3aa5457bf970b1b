// The files of configs/ within the program: models, clusters, calibration, published figures.
#pragma once

#include <span>
#include <string_view>

#include "io/file_system.h"

namespace colossus {

struct ReadyFile {
  std::string_view path;  // "configs/clusters/colossus-100k-h100.toml"
  std::string_view text;
};
std::span<const ReadyFile> ready_file_table();  // written by cmake/ready_files.cmake

// Local files, and for a path that begins with "configs/" and is not there the one within the program.
FileSystem& local_and_ready_files();

}  // namespace colossus
