// Somebody else's model, opened: what it is, its tensors, and the small files that go with it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "convert/family.h"
#include "convert/source.h"
#include "io/file_system.h"
#include "model/generation_tokens.h"
#include "model/model_config.h"

namespace colossus {

struct OpenedModel {
  std::string format;  // "hf", "gguf", "llama2.c"
  std::string family;  // of the names; "" where the format has one only
  ModelConfig config;
  std::vector<NameRule> rules;
  std::vector<std::string_view> no_parameters;  // ends of names to pass over
  std::string strip;                            // see make_name_map
  SourceTensors tensors;
  std::vector<std::string> other_types;
  GenerationTokens generation;               // what the files say of it; the rest is the tokenizer's
  std::string identity;                      // changes with the files
  std::map<std::string, std::string> texts;  // what a checkpoint of it keeps
  std::vector<std::string> notes;            // for the user
};

// Names of texts in a checkpoint.
inline constexpr const char* kCarriedPrefix = "hf.";  // before the name that a file has in a Hugging Face directory
inline constexpr const char* kImportRecord = "import.json";  // where the model came from

// `path` is a directory with config.json and safetensors, a .gguf file, or a llama2.c .bin. Everything that can be
// wrong with headers and configuration is found here; tensors' bytes are not read.
Result<OpenedModel> open_foreign_model(FileSystem& files, const std::string& path, const std::string& tokenizer);

Result<OpenedModel> open_hf_model(FileSystem& files, const std::string& directory);

}  // namespace colossus
