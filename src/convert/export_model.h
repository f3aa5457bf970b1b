// A checkpoint of ours as a Hugging Face directory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "model/model_config.h"

namespace colossus {

struct ExportOptions {
  std::string family;  // whose names to give the tensors; "": those it was imported with, or those that fit the network
  int64_t max_file_bytes = 5'000'000'000;  // of tensors in a shard; a larger tensor has one of its own
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;  // false stops it
};

struct ExportReport {
  std::string family;
  ModelConfig config;
  int64_t num_tensors = 0, num_bytes = 0, num_files = 0;
  std::vector<std::string> notes;
};

// `from` is a run (its newest checkpoint) or a checkpoint; `to` a directory that is not there yet. Tensors keep their
// type: after an import each has the bytes it came with. config.json is the imported one where the network is still
// that; the small files that came with the model are given back. Memory and resumption as in import_model.
Result<ExportReport> export_hf(FileSystem& files, const std::string& from, const std::string& to,
                               const ExportOptions& options = {});

}  // namespace colossus
