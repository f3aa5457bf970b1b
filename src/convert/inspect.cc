#include "convert/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>

#include "base/quantity.h"
#include "checkpoint/checkpoint.h"
#include "convert/gguf_model.h"
#include "convert/llama2c.h"
#include "convert/mapped_tensors.h"
#include "convert/tensor_files.h"
#include "io/checksum.h"
#include "io/config.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

constexpr int64_t kBlockBytes = 4 << 20;

// Elements that are no numbers; of types that have such.
void count_values(const std::string& dtype, std::span<const std::byte> bytes, InspectedTensor& tensor) {
  const auto count = [&]<class T>(T) {
    for (size_t i = 0; i + sizeof(T) <= bytes.size(); i += sizeof(T)) {
      T value;
      std::memcpy(&value, bytes.data() + i, sizeof(T));
      float number = 0;
      if constexpr (std::is_same_v<T, float>)
        number = value;
      else
        number = to_float(value);
      tensor.num_nans += std::isnan(number) ? 1 : 0;
      tensor.num_infinities += std::isinf(number) ? 1 : 0;
    }
  };
  if (dtype == "F32" || dtype == "f32") count(float{});
  if (dtype == "F16" || dtype == "f16") count(Float16{});
  if (dtype == "BF16" || dtype == "bf16") count(BFloat16{});
}

Status read_all(InspectedTensor& tensor, FunctionRef<Status(int64_t offset, std::span<std::byte> into)> read) {
  StreamingChecksum sum;
  std::vector<std::byte> block;
  for (int64_t at = 0; at < tensor.num_bytes; at += kBlockBytes) {
    block.resize(static_cast<size_t>(std::min(kBlockBytes, tensor.num_bytes - at)));
    RETURN_IF_ERROR(read(at, block));
    sum.add(block);
    count_values(tensor.dtype, block, tensor);
  }
  tensor.checksum = sum.value();
  return ok_status();
}

void add_file_tensors(const SafetensorsFile& file, const InspectOptions& options, Inspection& out) {
  for (const auto& [key, value] : file.metadata()) out.facts.emplace_back("metadata " + key, value.substr(0, 200));
  for (const SafetensorsEntry& entry : file.tensors()) {
    int64_t elements = 1;
    for (const int64_t size : entry.shape) elements *= size;
    InspectedTensor tensor{.name = entry.name,
                           .dtype = entry.dtype,
                           .shape = fmt::format("[{}]", fmt::join(entry.shape, ", ")),
                           .file = file.path().substr(file.path().rfind('/') + 1),
                           .num_elements = elements,
                           .num_bytes = entry.size_bytes,
                           .checksum = {}};
    if (options.checksums)
      if (const Status read =
              read_all(tensor, [&](int64_t at, std::span<std::byte> into) { return file.read(entry, at, into); });
          !read.ok())
        out.faults.push_back(read.message());
    out.tensors.push_back(std::move(tensor));
  }
}

void inspect_safetensors(FileSystem& files, const InspectOptions& options, Inspection& out) {
  out.kind = "safetensors file";
  const auto file = SafetensorsFile::open(files, out.path);
  if (!file.ok()) return out.faults.push_back(file.status().message());
  add_file_tensors(*file, options, out);
}

void add_model_facts(const ModelConfig& config, Inspection& out) {
  const auto counts = count_parameters(config);
  if (counts.ok()) {
    out.facts.emplace_back("parameters",
                           fmt::format("{} ({})", counts->total, format_quantity(static_cast<double>(counts->total))));
    out.facts.emplace_back("of one token", format_quantity(static_cast<double>(counts->active)));
  }
  out.facts.emplace_back(
      "network", fmt::format("{} layers, width {}, {} heads of {}, {} with keys and values, vocabulary {}, context {}",
                             config.num_layers, config.width, config.num_heads, config.head_dim, config.num_kv_heads,
                             config.vocab_size, config.context));
  if (config.has_experts())
    out.facts.emplace_back("experts", fmt::format("{}, {} of a token, inner size {}", config.num_experts,
                                                  config.num_experts_per_token, config.expert_width));
}

// What an import would find.
void try_import(FileSystem& files, Inspection& out) {
  const auto model = open_foreign_model(files, out.path, "");
  if (!model.ok()) return out.faults.push_back(model.status().message());
  out.facts.emplace_back("family", model->family.empty() ? model->format : model->family);
  out.notes.insert(out.notes.end(), model->notes.begin(), model->notes.end());
  const auto config = parse_config<ModelConfig>(print_config(model->config), "the network");
  if (!config.ok()) return out.faults.push_back(config.status().message());
  add_model_facts(*config, out);
  const auto map = make_name_map(*config, model->rules, model->strip);
  if (!map.ok()) return out.faults.push_back(map.status().message());
  if (const Status fits = check_tensors(*map, *model, out.notes); !fits.ok()) out.faults.push_back(fits.message());
}

void inspect_hf(FileSystem& files, const InspectOptions& options, Inspection& out) {
  out.kind = "Hugging Face directory";
  const auto names = list_tensor_files(files, out.path);
  if (!names.ok()) return out.faults.push_back(names.status().message());
  for (const std::string& name : *names) {
    const auto file = SafetensorsFile::open(files, out.path + "/" + name);
    if (file.ok())
      add_file_tensors(*file, options, out);
    else
      out.faults.push_back(file.status().message());
  }
  if (out.faults.empty()) try_import(files, out);
}

void inspect_checkpoint(FileSystem& files, const InspectOptions& options, Inspection& out) {
  out.kind = "checkpoint";
  std::vector<Status> passed_over;
  const auto found = find_checkpoint(files, out.path, passed_over);
  for (const Status& status : passed_over) out.faults.push_back(status.message());
  if (!found.ok()) return out.faults.push_back(found.status().message());
  const Checkpoint& checkpoint = *found;
  out.facts.emplace_back("place", checkpoint.path());
  out.facts.emplace_back("step", std::to_string(checkpoint.state().step));
  std::vector<std::string> texts;
  for (const auto& [name, text] : checkpoint.state().texts) texts.push_back(name);
  out.facts.emplace_back("texts", fmt::format("{}", fmt::join(texts, ", ")));
  if (const auto text = checkpoint.state().texts.find("model.toml"); text != checkpoint.state().texts.end()) {
    const auto config = parse_config<ModelConfig>(text->second, checkpoint.path() + "/model.toml");
    if (config.ok())
      add_model_facts(*config, out);
    else
      out.faults.push_back(config.status().message());
  }
  for (const Checkpoint::Entry& entry : checkpoint.tensors()) {
    InspectedTensor tensor{.name = entry.file + "/" + entry.name,
                           .dtype = std::string(dtype_name(entry.dtype)),
                           .shape = entry.shape.to_string(),
                           .file = entry.pieces.empty() ? "" : entry.pieces.front().file_name,
                           .num_elements = entry.shape.num_elements(),
                           .num_bytes = entry.num_bytes(),
                           .checksum = {}};
    if (options.checksums) {
      const Status read = read_all(tensor, [&](int64_t at, std::span<std::byte> into) {
        Piece piece = whole_piece(entry.shape);
        piece.begin = at / dtype_bytes(entry.dtype);
        piece.end = piece.begin + static_cast<int64_t>(into.size()) / dtype_bytes(entry.dtype);
        return checkpoint.read(entry, piece, into);
      });
      if (!read.ok()) out.faults.push_back(read.message());
    }
    out.tensors.push_back(std::move(tensor));
  }
}

void inspect_tokenizer(FileSystem& files, Inspection& out) {
  out.kind = "tokenizer";
  const auto tokenizer = load_tokenizer(files, out.path);
  if (!tokenizer.ok()) return out.faults.push_back(tokenizer.status().message());
  out.facts.emplace_back("vocabulary", std::to_string(tokenizer->vocab_size()));
  out.facts.emplace_back("merges", std::to_string(tokenizer->spec().merges.size()));
  std::vector<std::string> added;
  for (const AddedToken& token : tokenizer->spec().added) added.push_back(token.text);
  if (added.size() > 8) added = {added.begin(), added.begin() + 8};
  out.facts.emplace_back("added tokens", fmt::format("{}: {}", tokenizer->spec().added.size(), fmt::join(added, " ")));
}

void inspect_bin(FileSystem& files, const InspectOptions& options, Inspection& out) {
  out.kind = "llama2.c model";
  const auto model = open_foreign_model(files, out.path, "");
  if (!model.ok()) {
    const auto pieces = count_llama2c_pieces(files, out.path);
    if (!pieces.ok()) return out.faults.push_back(model.status().message());
    out.kind = "llama2.c tokenizer";
    out.facts.emplace_back("pieces", std::to_string(*pieces));
    return;
  }
  out.notes = model->notes;
  add_model_facts(model->config, out);
  for (const auto& [name, source] : model->tensors) {
    InspectedTensor tensor{.name = name,
                           .dtype = std::string(dtype_name(source.dtype)),
                           .shape = source.shape.to_string(),
                           .file = out.path.substr(out.path.rfind('/') + 1),
                           .num_elements = source.shape.num_elements(),
                           .num_bytes = source.num_bytes(),
                           .checksum = {}};
    if (options.checksums)
      if (const Status read = read_all(tensor, source.read); !read.ok()) out.faults.push_back(read.message());
    out.tensors.push_back(std::move(tensor));
  }
}

std::string shown(const GgufFile& file, const GgufValue& value) {
  constexpr size_t kMostBytes = 200;
  if (const std::string* text = value.text()) return text->substr(0, kMostBytes);
  if (const auto flag = value.flag()) return *flag ? "true" : "false";
  if (const auto whole = value.whole()) return std::to_string(*whole);
  if (const auto number = value.number()) return fmt::format("{}", *number);
  const GgufArray& array = *value.array();
  const std::string what = fmt::format("{} {}", with_separators(array.count), gguf_type_name(array.element));
  constexpr int64_t kMostShown = 8;
  if (array.count > kMostShown || array.count == 0) return what;
  if (const auto texts = file.texts(array, kMostShown); texts.ok())
    return fmt::format("{}: {}", what, fmt::join(*texts, ", ")).substr(0, kMostBytes);
  return what;
}

void add_gguf_tensor(const std::shared_ptr<const GgufFile>& file, const GgufTensor& entry,
                     const InspectOptions& options, Inspection& out) {
  InspectedTensor tensor{.name = entry.name,
                         .dtype = std::string(entry.type_name()),
                         .shape = entry.shape.to_string(),
                         .file = file->path().substr(file->path().rfind('/') + 1),
                         .num_elements = entry.shape.num_elements(),
                         .num_bytes = entry.num_bytes,
                         .checksum = {}};
  if (options.checksums) {
    Status read = read_all(tensor, [&](int64_t at, std::span<std::byte> into) { return file->read(entry, at, into); });
    // Quantized numbers hide what is not finite in their scales.
    if (read.ok() && tensor.dtype.find('Q') != std::string::npos && is_readable(entry.type)) {
      const SourceTensor source = gguf_source(file, entry);
      InspectedTensor numbers{.dtype = "F32", .num_bytes = source.num_bytes(), .checksum = {}};
      read = read_all(numbers, source.read);
      tensor.num_nans = numbers.num_nans;
      tensor.num_infinities = numbers.num_infinities;
    }
    if (!read.ok()) out.faults.push_back(read.message());
  }
  out.tensors.push_back(std::move(tensor));
}

void inspect_gguf(FileSystem& files, const InspectOptions& options, Inspection& out) {
  out.kind = "GGUF file";
  const auto opened = open_gguf_files(files, out.path);
  if (!opened.ok()) return out.faults.push_back(opened.status().message());
  const GgufFile& first = *opened->front();
  out.facts.emplace_back("version", fmt::format("{}, tensors at multiples of {}", first.version(), first.alignment()));
  if (opened->size() > 1) out.facts.emplace_back("parts", std::to_string(opened->size()));
  for (const auto& [key, value] : first.metadata()) out.facts.emplace_back(key, shown(first, value));
  for (const auto& file : *opened) {
    for (const GgufTensor& tensor : file->tensors()) add_gguf_tensor(file, tensor, options, out);
    if (file->bytes_behind() > 0)
      out.notes.push_back(fmt::format("{}: {} bytes behind the last tensor mean nothing", file->path(),
                                      with_separators(file->bytes_behind())));
  }
  try_import(files, out);
}

}  // namespace

Result<Inspection> inspect_path(FileSystem& files, const std::string& path, const InspectOptions& options) {
  Inspection out{.path = path, .kind = {}, .facts = {}, .tensors = {}, .notes = {}, .faults = {}};
  while (out.path.size() > 1 && out.path.ends_with('/')) out.path.pop_back();
  ASSIGN_OR_RETURN(const FileEntry entry, files.stat(out.path));
  if (entry.is_directory) {
    if (files.stat(out.path + "/manifest.json").ok() || files.stat(out.path + "/checkpoints").ok())
      inspect_checkpoint(files, options, out);
    else
      inspect_hf(files, options, out);
    return out;
  }
  out.facts.emplace_back("size", format_quantity(static_cast<double>(entry.size_bytes), "bytes"));
  if (out.path.ends_with(".safetensors"))
    inspect_safetensors(files, options, out);
  else if (out.path.ends_with(".gguf"))
    inspect_gguf(files, options, out);
  else if (out.path.ends_with(".bin"))
    inspect_bin(files, options, out);
  else if (out.path.ends_with(".json") || out.path.ends_with(".tiktoken") || out.path.ends_with(".model"))
    inspect_tokenizer(files, out);
  else
    return invalid(fmt::format(
        "[{}] is nothing that is known here; give a *.safetensors, a .gguf, a llama2.c .bin, a tokenizer.json, or the "
        "directory of a model, a checkpoint or a run",
        out.path));
  return out;
}

}  // namespace colossus
