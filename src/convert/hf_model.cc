#include <fmt/format.h>

#include <algorithm>

#include "convert/hf_config.h"
#include "convert/hf_tokenizer.h"
#include "convert/opened_model.h"
#include "convert/tensor_files.h"

namespace colossus {
namespace {

constexpr int64_t kMaxCarriedBytes = 32 << 20;  // of a file

// Small files that an export gives back: everything but tensors and what other programs make of them.
bool is_carried(const FileEntry& entry) {
  const std::string& name = entry.name;
  if (entry.is_directory || entry.is_link || name.starts_with('.') || name.ends_with(".index.json") ||
      entry.size_bytes > kMaxCarriedBytes || name == "tokenizer.json")
    return false;
  for (const char* suffix : {".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"})
    if (name.ends_with(suffix)) return true;
  return name.starts_with("LICENSE") || name.starts_with("NOTICE");
}

Status carry_files(FileSystem& files, const std::string& directory, OpenedModel& model) {
  ASSIGN_OR_RETURN(const auto entries, files.list(directory));
  for (const FileEntry& entry : entries) {
    if (!is_carried(entry)) continue;
    ASSIGN_OR_RETURN(model.texts[kCarriedPrefix + entry.name],
                     read_file(files, directory + "/" + entry.name, kMaxCarriedBytes));
  }
  return ok_status();
}

// The tokenizer, and how texts begin and end.
Status take_texts(FileSystem& files, const std::string& directory, const Json& config, OpenedModel& model) {
  ASSIGN_OR_RETURN(const HfTextFiles texts, read_hf_text_files(files, directory, config));
  ASSIGN_OR_RETURN(const auto json, read_hf_tokenizer(files, directory, model.family, texts, model.notes));
  std::optional<Tokenizer> tokenizer;
  if (json) {
    model.texts["tokenizer.json"] = *json;
    auto read = Tokenizer::from_json(*json);
    if (read.ok())
      tokenizer = std::move(*read);
    else
      model.notes.push_back(fmt::format("{}/tokenizer.json: this program cannot use it, and keeps it for export: {}",
                                        directory, read.status().message()));
  }
  model.generation = read_hf_generation(texts, tokenizer ? &*tokenizer : nullptr, model.config.vocab_size, model.notes);
  return ok_status();
}

bool has_release_names(const SourceTensors& tensors) {
  return tensors.contains(std::string(grok1_release().rules[0].theirs));
}

}  // namespace

Result<OpenedModel> open_hf_model(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(TensorFiles opened, open_tensor_files(files, directory));
  if (!files.stat(directory + "/config.json").ok())
    return not_found(fmt::format("[{}] has tensors, but no config.json, which says what network they are", directory));
  ASSIGN_OR_RETURN(const Json json, read_checked_json(files, directory + "/config.json", kMaxCarriedBytes));
  ASSIGN_OR_RETURN(const HfModel hf, read_hf_config(json, directory + "/config.json"));
  const ModelFamily& family =
      hf.family->name == "grok-1" && has_release_names(opened.tensors) ? grok1_release() : *hf.family;
  OpenedModel model{.format = "hf",
                    .family = std::string(family.name),
                    .config = hf.config,
                    .rules = family.rules,
                    .no_parameters = family.no_parameters,
                    .strip = {},
                    .tensors = std::move(opened.tensors),
                    .other_types = std::move(opened.other_types),
                    .generation = {},
                    .identity = opened.identity + json.dump(),
                    .texts = {},
                    .notes = hf.notes};
  // Saved by the class without the head: names lack their beginning.
  if (!family.base.empty() &&
      std::ranges::none_of(model.tensors, [&](const auto& t) { return t.first.starts_with(family.base); }))
    model.strip = family.base;
  RETURN_IF_ERROR(carry_files(files, directory, model));
  RETURN_IF_ERROR(take_texts(files, directory, json, model));
  return model;
}

}  // namespace colossus
