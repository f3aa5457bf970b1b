#include "convert/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "convert/gguf_config.h"
#include "convert/gguf_tokenizer.h"
#include "convert/tensor_files.h"
#include "io/checked_json.h"

namespace colossus {
namespace {

using GgufFiles = std::vector<std::shared_ptr<const GgufFile>>;

std::optional<int64_t> whole_of(const GgufFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? std::nullopt : found->second.whole();
}

// The name of another part, given that of one: "x-00002-of-00003.gguf". Counted from 0.
Result<std::string> name_of_part(const std::string& path, int64_t part, int64_t index, int64_t count) {
  const std::string end = fmt::format("-{:05}-of-{:05}.gguf", part + 1, count);
  if (!path.ends_with(end))
    return invalid(fmt::format("[{}] is part {} of {}; its name must then end in {}", path, part + 1, count, end));
  return fmt::format("{}-{:05}-of-{:05}.gguf", path.substr(0, path.size() - end.size()), index + 1, count);
}

Status check_together(const GgufFiles& opened) {
  std::map<std::string_view, const std::string*> place_of;
  for (const auto& file : opened)
    for (const GgufTensor& tensor : file->tensors())
      if (const auto [at, is_new] = place_of.emplace(tensor.name, &file->path()); !is_new)
        return invalid(fmt::format("[{}] has the tensor {}, and so has {}; each must be in one file", file->path(),
                                   tensor.name, *at->second));
  const auto wanted = whole_of(*opened.front(), "split.tensors.count");
  if (opened.size() > 1 && wanted && *wanted != static_cast<int64_t>(place_of.size()))
    return corrupt(fmt::format("[{}] says that the parts have {} tensors; they have {}", opened.front()->path(),
                               *wanted, place_of.size()));
  return ok_status();
}

// Numbers of blocks from any element on.
Status read_dequantized(const GgufFile& file, const GgufTensor& tensor, int64_t first, std::span<float> into) {
  constexpr int64_t kBlocksAtOnce = 4096;
  const GgmlTypeSize& size = *ggml_type_size(static_cast<uint32_t>(tensor.type));
  std::vector<std::byte> bytes;
  std::vector<float> numbers;
  while (!into.empty()) {
    const int64_t block = first / size.block_elements, within = first % size.block_elements;
    const int64_t needed = (within + static_cast<int64_t>(into.size()) + size.block_elements - 1) / size.block_elements;
    const int64_t count = std::min(needed, kBlocksAtOnce);
    bytes.resize(static_cast<size_t>(count * size.block_bytes));
    numbers.resize(static_cast<size_t>(count * size.block_elements));
    RETURN_IF_ERROR(file.read(tensor, block * size.block_bytes, bytes));
    dequantize(tensor.type, bytes, numbers);
    const size_t taken = std::min(into.size(), numbers.size() - static_cast<size_t>(within));
    std::memcpy(into.data(), numbers.data() + within, taken * sizeof(float));
    into = into.subspan(taken);
    first += static_cast<int64_t>(taken);
  }
  return ok_status();
}

std::optional<DType> stored_type(GgmlType type) {
  if (type == GgmlType::kF32) return DType::kF32;
  if (type == GgmlType::kF16) return DType::kF16;
  if (type == GgmlType::kBF16) return DType::kBF16;
  return std::nullopt;
}

Status add_sources(const GgufFiles& opened, OpenedModel& model) {
  for (const auto& file : opened)
    for (const GgufTensor& tensor : file->tensors()) {
      if (!is_readable(tensor.type))
        return invalid(fmt::format("[{}] {} is {}; needed one of {}", file->path(), tensor.name, tensor.type_name(),
                                   readable_types()));
      model.tensors[tensor.name] = gguf_source(file, tensor);
    }
  return ok_status();
}

Result<std::vector<float>> read_rope_freqs(const SourceTensors& tensors) {
  const auto found = tensors.find(std::string(kRopeFreqs));
  if (found == tensors.end()) return std::vector<float>();
  const SourceTensor& tensor = found->second;
  if (tensor.dtype != DType::kF32 || tensor.shape.rank() != 1 || tensor.shape[0] > (1 << 12))
    return invalid(
        fmt::format("{} is {}; needed one fp32 for each pair of a head", kRopeFreqs, tensor.shape.to_string()));
  std::vector<float> table(static_cast<size_t>(tensor.shape[0]));
  RETURN_IF_ERROR(tensor.read(0, std::as_writable_bytes(std::span(table))));
  return table;
}

Status take_config(const GgufFile& file, OpenedModel& model) {
  std::map<std::string, Shape> shapes;
  for (const auto& [name, tensor] : model.tensors) shapes[name] = tensor.shape;
  ASSIGN_OR_RETURN(const std::vector<float> rope_freqs, read_rope_freqs(model.tensors));
  ASSIGN_OR_RETURN(const GgufModel read, read_gguf_config(file.metadata(), shapes, rope_freqs));
  model.config = read.config;
  model.family = family_of(read.config).name;
  model.rules = gguf_rules(read.architecture, [&](const std::string& name) { return shapes.contains(name); });
  model.notes.insert(model.notes.end(), read.notes.begin(), read.notes.end());
  return ok_status();
}

// Kept as a Hugging Face directory has them: an export gives them back.
Status take_tokenizer(const GgufFile& file, OpenedModel& model) {
  ASSIGN_OR_RETURN(GgufTokenizer tokenizer, read_gguf_tokenizer(file, model.config.vocab_size));
  if (!tokenizer.json.empty()) model.texts["tokenizer.json"] = std::move(tokenizer.json);
  if (!tokenizer.chat_template.empty())
    model.texts[std::string(kCarriedPrefix) + "chat_template.jinja"] = std::move(tokenizer.chat_template);
  Json generation = Json::object();
  if (!tokenizer.begin_ids.empty()) generation["bos_token_id"] = tokenizer.begin_ids.front();
  if (tokenizer.end_ids.size() == 1) generation["eos_token_id"] = tokenizer.end_ids.front();
  if (tokenizer.end_ids.size() > 1) generation["eos_token_id"] = tokenizer.end_ids;
  if (!generation.empty())
    model.texts[std::string(kCarriedPrefix) + "generation_config.json"] = generation.dump(2) + "\n";
  model.generation = {
      .begin = std::move(tokenizer.begin_ids), .add_begin = tokenizer.adds_begin, .end = std::move(tokenizer.end_ids)};
  model.notes.insert(model.notes.end(), tokenizer.notes.begin(), tokenizer.notes.end());
  return ok_status();
}

}  // namespace

SourceTensor gguf_source(const std::shared_ptr<const GgufFile>& file, const GgufTensor& tensor) {
  const auto stored = stored_type(tensor.type);
  SourceTensor source{.name = tensor.name,
                      .dtype = stored.value_or(DType::kF32),
                      .shape = tensor.shape,
                      .read = {},
                      .place = file->path()};
  if (stored)
    source.read = [file, &tensor](int64_t offset, std::span<std::byte> into) {
      return file->read(tensor, offset, into);
    };
  else
    source.read = [file, &tensor](int64_t offset, std::span<std::byte> into) {
      // Whoever reads numbers asks for whole ones.
      CHECK(offset % 4 == 0 && into.size() % 4 == 0);
      std::vector<float> numbers(into.size() / sizeof(float));
      RETURN_IF_ERROR(read_dequantized(*file, tensor, offset / 4, numbers));
      std::memcpy(into.data(), numbers.data(), into.size());
      return ok_status();
    };
  return source;
}

Result<GgufFiles> open_gguf_files(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(GgufFile first, GgufFile::open(files, path));
  const int64_t count = whole_of(first, "split.count").value_or(1);
  const int64_t part = whole_of(first, "split.no").value_or(0);
  GgufFiles opened;
  if (count <= 1) {
    opened.push_back(std::make_shared<const GgufFile>(std::move(first)));
  } else {
    if (part < 0 || part >= count || count > 99999)
      return invalid(fmt::format("[{}] says that it is part {} of {}, counted from 0", path, part, count));
    for (int64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(const std::string name, name_of_part(path, part, i, count));
      ASSIGN_OR_RETURN(GgufFile file, GgufFile::open(files, name));
      if (whole_of(file, "split.no") != i || whole_of(file, "split.count") != count)
        return invalid(fmt::format("[{}] does not say that it is part {} of {}; the files do not belong together", name,
                                   i + 1, count));
      opened.push_back(std::make_shared<const GgufFile>(std::move(file)));
    }
  }
  RETURN_IF_ERROR(check_together(opened));
  return opened;
}

Result<OpenedModel> open_gguf_model(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const GgufFiles opened, open_gguf_files(files, path));
  OpenedModel model{.format = "gguf",
                    .family = {},
                    .config = {},
                    .rules = {},
                    .no_parameters = {kRopeFreqs},
                    .strip = {},
                    .tensors = {},
                    .other_types = {},
                    .identity = "gguf ",
                    .texts = {},
                    .notes = {}};
  RETURN_IF_ERROR(add_sources(opened, model));
  const GgufFile& first = *opened.front();
  RETURN_IF_ERROR(take_config(first, model).at(path));
  RETURN_IF_ERROR(take_tokenizer(first, model).at(path));
  for (const auto& file : opened) {
    ASSIGN_OR_RETURN(const std::string identity, identity_of_file(files, file->path()));
    model.identity += identity;
  }
  return model;
}

}  // namespace colossus
