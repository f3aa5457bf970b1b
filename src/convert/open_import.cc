#include "convert/open_import.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "convert/assemble.h"
#include "convert/mapped_tensors.h"
#include "convert/row_parts.h"
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

// The same without turning it over: of a matrix that is (out, in) there, rows of (out, in).
RowPart rows_of(const MatrixLink& link, const SourceTensor& source, int64_t head_dim) {
  if (link.layout == MatrixOrder::kSame)
    return {.row = link.matrix * link.in,
            .rows = link.in,
            .source = &source,
            .source_row = link.their_matrix * link.in,
            .source_col = link.first_out};
  return {.row = link.matrix * link.out,
          .rows = link.out,
          .source = &source,
          .source_row = link.their_matrix * source.shape[-2] + link.first_out,
          .head_dim = link.layout == MatrixOrder::kTransposedPairs ? head_dim : 0};
}

StoredParameter stored_parameter(const Shape& shape, std::span<const MatrixLink> links, const NameMap& map,
                                 const ModelConfig& config, const std::shared_ptr<const OpenedModel>& source) {
  const auto tensor_of = [&](const MatrixLink& link) -> const SourceTensor& {
    return source->tensors.at(map.theirs[link.theirs].name);
  };
  const bool transposed = links.front().layout != MatrixOrder::kSame;
  std::vector<RowPart> parts;
  for (const MatrixLink& link : links) {
    CHECK((link.layout != MatrixOrder::kSame) == transposed, "the matrices of one stack lie alike");
    parts.push_back(rows_of(link, tensor_of(link), config.head_dim));
  }
  const Shape stored = transposed ? shape.transposed() : shape;
  const int64_t cols = stored.rank() == 0 ? 1 : stored[-1];
  return {.type = {stored, tensor_of(links.front()).dtype},
          .transposed = transposed,
          .bytes = {.read = [source, cols, parts = std::move(parts)](int64_t offset, std::span<std::byte> into) {
            return read_rows(parts, cols, offset, into);
          }}};
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
      .stored = {},
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
    model.stored.emplace(map.ours[i].name, stored_parameter(map.ours[i].shape, map.of_ours(i), map, config, source));
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
