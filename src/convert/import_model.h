// Somebody else's model as a checkpoint of ours.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "model/model_config.h"

namespace colossus {

struct ImportOptions {
  std::string tokenizer;  // of a llama2.c model
  int64_t max_file_bytes = int64_t{4} << 30;
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;  // false stops it
};

struct ImportReport {
  std::string format, family;
  ModelConfig config;
  int64_t num_tensors = 0, num_bytes = 0;
  std::vector<std::string> notes;  // what was passed over, and what will not work
};

// Reads `from` (see open_foreign_model) and writes the checkpoint `to`, where nothing is yet. Tensors keep their type.
// Memory: the largest matrix, and some mebibytes. Cut short, it goes on where it was when it is called again.
Result<ImportReport> import_model(FileSystem& files, const std::string& from, const std::string& to,
                                  const ImportOptions& options = {});

}  // namespace colossus
