// Somebody else's model as what a checkpoint of ours would hold of it: to be written (convert/import_model.h), or read
// where it lies.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "convert/opened_model.h"
#include "model/stored_parameter.h"

namespace colossus {

struct ImportReport {
  std::string format, family;
  ModelConfig config;
  int64_t num_tensors = 0, num_bytes = 0;
  std::vector<std::string> notes;  // what was passed over, and what will not work
};

struct ModelToImport {
  ImportReport report;
  CheckpointState state;  // texts: model.toml, generation.toml, tokenizer.json, what an export gives back
  std::vector<CheckpointTensor> tensors;      // all whole, in their own type; each is read from front to back
  StoredParameters stored;                    // the same parameters where they lie
  std::shared_ptr<const OpenedModel> source;  // what both read from
};

// Everything that can be wrong with headers and configuration is found here; tensors' bytes are not read.
Result<ModelToImport> open_import(FileSystem& files, const std::string& from, const std::string& tokenizer);

// Whether the path is a model that open_import is for, sound or not, and no run or checkpoint of ours.
bool is_foreign_model(FileSystem& files, const std::string& path);

}  // namespace colossus
