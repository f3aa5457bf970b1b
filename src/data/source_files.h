// Names on the command line become a list of files: files, directories (everything below them), patterns.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/file_system.h"

namespace colossus {

struct SourceFile {
  std::string path;
  int64_t size_bytes = 0;  // as it lies on the disk
};

// `*` any characters but /, `?` one, `[a-z]` `[!a-z]` a set; a leading dot must be written. One path component only.
bool matches_pattern(std::string_view name, std::string_view pattern);

// The files of each input in turn, in the order of their names, each once. A component `**` of a pattern stands for any
// number of directories. Below a directory hidden names are left out, and links to directories (they can lead in a
// circle); links to files are followed. An input that gives nothing is an error.
Result<std::vector<SourceFile>> find_source_files(FileSystem& files, const std::vector<std::string>& inputs);

}  // namespace colossus
