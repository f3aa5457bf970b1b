// What is in the files of a model, ours or another's, and what is wrong with them.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

struct InspectOptions {
  bool checksums = false;  // read every tensor
};

struct InspectedTensor {
  std::string name, dtype, shape, file;
  int64_t num_elements = 0, num_bytes = 0;
  // With checksums:
  std::optional<uint64_t> checksum;  // XXH3-64 of its bytes
  int64_t num_nans = 0, num_infinities = 0;
};

struct Inspection {
  std::string path;
  std::string kind;                                        // "safetensors file", "Hugging Face directory", ...
  std::vector<std::pair<std::string, std::string>> facts;  // "parameters": "1.1 G"
  std::vector<InspectedTensor> tensors;
  std::vector<std::string> notes;
  std::vector<std::string> faults;  // as errors are worded; empty: nothing was found
};

// Fails only where there is nothing to look at: what is wrong inside is a fault of the inspection.
Result<Inspection> inspect_path(FileSystem& files, const std::string& path, const InspectOptions& options);

std::string inspection_text(const Inspection& inspection);
std::string inspection_json(const Inspection& inspection);

}  // namespace colossus
