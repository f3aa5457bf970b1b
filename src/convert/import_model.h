// Somebody else's model as a checkpoint of ours.
#pragma once

#include <functional>
#include <string>

#include "convert/open_import.h"

namespace colossus {

struct ImportOptions {
  std::string tokenizer;  // of a llama2.c model
  int64_t max_file_bytes = int64_t{4} << 30;
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;  // false stops it
};

// Reads `from` (see open_import) and writes the checkpoint `to`, where nothing is yet. Tensors keep their type.
// Memory: the largest matrix, and some mebibytes. Cut short, it goes on where it was when it is called again.
Result<ImportReport> import_model(FileSystem& files, const std::string& from, const std::string& to,
                                  const ImportOptions& options = {});

}  // namespace colossus
