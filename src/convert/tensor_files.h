// The safetensors files of a directory as one set of tensors.
#pragma once

#include <string>
#include <vector>

#include "convert/source.h"
#include "io/safetensors.h"

namespace colossus {

inline constexpr const char* kIndexName = "model.safetensors.index.json";

struct TensorFiles {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  SourceTensors tensors;                 // those of types that can be imported; int8 with scales as what they stand for
  std::vector<std::string> other_types;  // "name: I64", for messages and for inspect
  std::string identity;                  // of the files: sizes, headers, and samples of their bytes
};

// Of one file: its size, and samples from front to back. Files of the same length with the same headers are told apart
// by these; reading all would double the work.
Result<std::string> identity_of_file(FileSystem& files, const std::string& path);

// Which files those are, in the order of their names: what the index names, or model.safetensors, or every
// *.safetensors. A directory without any is refused; where there are pickles, with what to do.
Result<std::vector<std::string>> list_tensor_files(FileSystem& files, const std::string& directory);

// Opened, every tensor once, and the index (where there is one) held to what the files have.
Result<TensorFiles> open_tensor_files(FileSystem& files, const std::string& directory);

}  // namespace colossus
