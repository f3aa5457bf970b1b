#include "convert/open_import.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "convert/assemble.h"
#include "convert/mapped_tensors.h"
#include "io/config.h"

namespace colossus {
namespace {

// Where our matrix (in, out) of link's is in the tensor of theirs.
Box box_of(const MatrixLink& link, const SourceTensor& source, int64_t head_dim) {
  Box box{.row = link.matrix * link.in, .rows = link.in, .cols = link.out, .source = &source};
  if (link.layout == MatrixOrder::kSame) {
    box.source_row = link.their_matrix * link.in;
    box.source_col = link.first_out;
    return box;
  }
  const int64_t their_out = source.shape[-2];
  box.source_row = link.their_matrix * their_out + link.first_out;
  box.transposed = true;
  box.head_dim = link.layout == MatrixOrder::kTransposedPairs ? head_dim : 0;
  box.pairs_in_source = true;
  return box;
}

std::string record_of(const OpenedModel& model, const std::string& from) {
  const size_t slash = from.find_last_not_of('/');
  const std::string trimmed = from.substr(0, slash + 1);
  const nlohmann::ordered_json json = {{"from", trimmed.substr(trimmed.rfind('/') + 1)},
                                       {"format", model.format},
                                       {"family", model.family},
                                       {"without", model.strip}};
  return json.dump(1) + "\n";
}

}  // namespace

Result<ModelToImport> open_import(FileSystem& files, const std::string& from, const std::string& tokenizer) {
  ASSIGN_OR_RETURN(OpenedModel opened, open_foreign_model(files, from, tokenizer));
  const auto source = std::make_shared<const OpenedModel>(std::move(opened));
  // What the file format allows and the network does not: with the names of our fields.
  ASSIGN_OR_RETURN(const ModelConfig config,
                   parse_config<ModelConfig>(print_config(source->config), "the imported model"));
  ASSIGN_OR_RETURN(const NameMap map, make_name_map(config, source->rules, source->strip));
  ModelToImport model{
      .report = {.format = source->format, .family = source->family, .config = config, .notes = source->notes},
      .state = {.step = 0, .validation_loss = {}, .texts = source->texts},
      .tensors = {},
      .source = source};
  RETURN_IF_ERROR(check_tensors(map, *source, model.report.notes).at(from));
  const auto buffers = make_assembly_buffers();
  for (size_t i = 0; i < map.ours.size(); ++i) {
    std::vector<Box> boxes;
    for (const MatrixLink& link : map.of_ours(i))
      boxes.push_back(box_of(link, source->tensors.at(map.theirs[link.theirs].name), config.head_dim));
    const DType dtype = boxes.front().source->dtype;
    const auto assembly = std::make_shared<Assembly>(map.ours[i].shape, dtype, std::move(boxes), buffers);
    model.tensors.push_back(
        {.file = "model",
         .name = map.ours[i].name,
         .dtype = dtype,
         .shape = map.ours[i].shape,
         .piece = whole_piece(map.ours[i].shape),
         .read = [assembly](int64_t offset, std::span<std::byte> into) { return assembly->read(offset, into); }});
    model.report.num_bytes += model.tensors.back().num_bytes();
  }
  model.report.num_tensors = static_cast<int64_t>(model.tensors.size());
  model.state.texts["model.toml"] = print_config(config);
  model.state.texts[kGenerationFile] = print_config(source->generation);
  model.state.texts[kImportRecord] = record_of(*source, from);
  return model;
}

bool is_foreign_model(FileSystem& files, const std::string& path) {
  const auto entry = files.stat(path);
  if (!entry.ok()) return false;
  if (!entry->is_directory) return true;
  const auto has = [&](const char* name) { return files.stat(path + "/" + name).ok(); };
  // Of what is ours something may be missing: its error is the one to hear.
  for (const char* name : {"manifest.json", "model.toml", "checkpoints"})
    if (has(name)) return false;
  return has("config.json") || has("model.safetensors");
}

}  // namespace colossus
