#include "convert/export_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "convert/export_source.h"
#include "convert/hf_config.h"
#include "convert/opened_model.h"
#include "convert/plain_name.h"
#include "convert/tensor_files.h"
#include "io/checked_json.h"
#include "io/checksum.h"
#include "io/config.h"
#include "io/resumable_files.h"
#include "text/tokenizer.h"
#include "text/tokenizer_convert.h"

namespace colossus {
namespace {

std::string torch_name(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : dtype == DType::kF16 ? "float16" : "float32";
}
std::string safetensors_name(DType dtype) {
  return dtype == DType::kBF16 ? "BF16" : dtype == DType::kF16 ? "F16" : "F32";
}

struct Names {
  const ModelFamily* family = nullptr;
  std::string strip;
};

Result<Names> choose_names(const Checkpoint& checkpoint, const ModelConfig& config, const std::string& asked) {
  Names names{.family = &family_of(config), .strip = {}};
  if (const std::string* record = text_of(checkpoint, kImportRecord)) {
    ASSIGN_OR_RETURN(const Json json, parse_checked_json(*record, checkpoint.path() + "/" + kImportRecord));
    const std::string family = json.is_object() ? json.value("family", "") : "";
    if (const ModelFamily* imported = find_family(family)) {
      names.family = imported;
      names.strip = json.value("without", "");
    }
  }
  if (asked.empty()) return names;
  std::vector<std::string_view> known;
  for (const ModelFamily& family : hf_families()) known.push_back(family.name);
  const ModelFamily* family = find_family(asked);
  if (!family)
    return invalid(fmt::format("[--family] \"{}\" is not known; needed one of {}", asked, fmt::join(known, ", ")));
  if (family != names.family) names = {.family = family, .strip = {}};
  return names;
}

struct Shards {
  std::vector<FileToWrite> files;
  std::map<std::string, std::string> file_of;  // by tensor
  int64_t num_bytes = 0;
};

Result<Shards> plan_shards(const NameMap& map, const std::vector<SourceTensor>& sources, int64_t head_dim,
                           int64_t max_file_bytes) {
  Shards shards;
  const auto buffers = make_assembly_buffers();
  int64_t bytes_of_file = 0;
  for (const TheirTensor& theirs : map.theirs) {
    ASSIGN_OR_RETURN(const MadeTensor made, make_tensor(map, theirs, sources, head_dim, buffers));
    const int64_t bytes = theirs.shape.num_elements() * dtype_bytes(made.dtype);
    if (shards.files.empty() || bytes_of_file + bytes > max_file_bytes) {
      shards.files.push_back({.name = {}, .metadata = {{"format", "pt"}}, .tensors = {}});
      bytes_of_file = 0;
    }
    bytes_of_file += bytes;
    shards.num_bytes += bytes;
    shards.files.back().tensors.push_back(
        {.spec = {theirs.name,
                  safetensors_name(made.dtype),
                  {theirs.shape.sizes().begin(), theirs.shape.sizes().end()}},
         .read = [assembly = made.assembly](int64_t offset, std::span<std::byte> into) {
           return assembly->read(offset, into);
         }});
  }
  for (size_t i = 0; i < shards.files.size(); ++i) {
    FileToWrite& file = shards.files[i];
    file.name = shards.files.size() == 1 ? "model.safetensors"
                                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.files.size());
    for (const TensorToWrite& tensor : file.tensors) shards.file_of[tensor.spec.name] = file.name;
  }
  return shards;
}

// The imported one where the network is what it says, else one of our own.
std::string config_json(const Checkpoint& checkpoint, const ModelConfig& config, const GenerationTokens& generation,
                        const Names& names, DType dtype) {
  if (const std::string* carried = text_of(checkpoint, std::string(kCarriedPrefix) + "config.json"))
    if (const auto json = parse_checked_json(*carried, "config.json"); json.ok())
      if (const auto read = read_hf_config(*json, "config.json");
          read.ok() && read->family == names.family &&
          print_config(network_of(read->config)) == print_config(network_of(config)))
        return *carried;
  Json json = write_hf_config(config, *names.family, torch_name(dtype));
  if (!generation.begin.empty()) json["bos_token_id"] = generation.begin.front();
  if (generation.end.size() == 1) json["eos_token_id"] = generation.end.front();
  if (generation.end.size() > 1) json["eos_token_id"] = generation.end;
  return json.dump(2) + "\n";
}

// In the kinds that others read. One made of a SentencePiece model keeps that whole in a tokenizer.json of our own
// kind: it goes back as the model, and as steps of a tokenizer.json.
Status write_tokenizer(FileSystem& files, const std::string& directory, const Checkpoint& checkpoint,
                       std::vector<std::string>& notes) {
  const std::string* text = text_of(checkpoint, "tokenizer.json");
  if (!text) return ok_status();
  const auto tokenizer = Tokenizer::from_json(*text);
  // One that this program cannot use is given back as it came.
  if (!tokenizer.ok() || tokenizer->spec().sentencepiece.empty())
    return write_file_atomically(files, directory + "/tokenizer.json", *text);
  if (text_of(checkpoint, std::string(kCarriedPrefix) + "tokenizer.model")) return ok_status();  // it is there already
  RETURN_IF_ERROR(write_file_atomically(files, directory + "/tokenizer.model", tokenizer->spec().sentencepiece));
  const auto portable = portable_json(*tokenizer);
  if (!portable.ok()) {
    notes.push_back("no tokenizer.json, only a tokenizer.model: " + portable.status().message());
    return ok_status();
  }
  for (const std::string& difference : portable->differences) notes.push_back("tokenizer.json: " + difference);
  return write_file_atomically(files, directory + "/tokenizer.json", portable->json);
}

Status write_small_files(FileSystem& files, const std::string& directory, const Checkpoint& checkpoint,
                         const Shards& shards, const std::string& config, std::vector<std::string>& notes) {
  for (const auto& [name, text] : checkpoint.state().texts) {
    if (!name.starts_with(kCarriedPrefix)) continue;
    const std::string plain = name.substr(std::string_view(kCarriedPrefix).size());
    if (!is_plain_name(plain) || plain == "config.json") continue;
    RETURN_IF_ERROR(write_file_atomically(files, directory + "/" + plain, text));
  }
  RETURN_IF_ERROR(write_tokenizer(files, directory, checkpoint, notes));
  RETURN_IF_ERROR(write_file_atomically(files, directory + "/config.json", config));
  if (shards.files.size() == 1) return files.remove_all(directory + "/" + kIndexName);
  const Json index = {{"metadata", {{"total_size", shards.num_bytes}}}, {"weight_map", shards.file_of}};
  return write_file_atomically(files, directory + "/" + kIndexName, index.dump(2) + "\n");
}

// config.json must be read back as the network, or tensors would be given that it does not describe.
Status check_expressible(const ModelConfig& config, const std::string& json) {
  ASSIGN_OR_RETURN(const Json parsed, parse_checked_json(json, "config.json"));
  ASSIGN_OR_RETURN(const HfModel read, read_hf_config(parsed, "config.json"));
  return check_same_network(config, read.config, fmt::format("a config.json of {}", read.family->name));
}

}  // namespace

Result<ExportReport> export_hf(FileSystem& files, const std::string& from, const std::string& to,
                               const ExportOptions& options) {
  ASSIGN_OR_RETURN(const std::string place, free_place(files, to));
  ExportReport report;
  ASSIGN_OR_RETURN(ExportSource source, open_export_source(files, from));
  const Checkpoint& checkpoint = source.checkpoint;
  report.config = source.config;
  report.notes = std::move(source.notes);
  ASSIGN_OR_RETURN(const Names names, choose_names(checkpoint, report.config, options.family));
  report.family = names.family->name;
  ASSIGN_OR_RETURN(const NameMap map, make_name_map(report.config, names.family->rules, names.strip));
  ASSIGN_OR_RETURN(const std::vector<SourceTensor> sources, open_sources(checkpoint, map));
  ASSIGN_OR_RETURN(const Shards shards, plan_shards(map, sources, report.config.head_dim, options.max_file_bytes));
  ASSIGN_OR_RETURN(const GenerationTokens generation, generation_of(checkpoint));
  const std::string config = config_json(checkpoint, report.config, generation, names, sources.front().dtype);
  RETURN_IF_ERROR(check_expressible(report.config, config));
  report.num_tensors = static_cast<int64_t>(map.theirs.size());
  report.num_bytes = shards.num_bytes;
  report.num_files = static_cast<int64_t>(shards.files.size());

  const std::string unfinished = place + ".tmp";
  RETURN_IF_ERROR(files.make_directories(unfinished));
  ASSIGN_OR_RETURN(const std::string manifest, read_file(files, checkpoint.path() + "/manifest.json"));
  const std::string identity =
      fmt::format("{:016x} {} {} {}", checksum(manifest), report.family, names.strip, options.max_file_bytes);
  RETURN_IF_ERROR(write_resumable(files, unfinished, shards.files,
                                  {.identity = identity, .progress = [&](int64_t done) {
                                     return !options.progress || options.progress(done, shards.num_bytes);
                                   }}));
  RETURN_IF_ERROR(write_small_files(files, unfinished, checkpoint, shards, config, report.notes));
  RETURN_IF_ERROR(files.sync_directory(unfinished));
  RETURN_IF_ERROR(files.rename(unfinished, place));
  // A record that stays does no harm.
  static_cast<void>(forget_records(files, place));
  const size_t slash = place.rfind('/');
  RETURN_IF_ERROR(files.sync_directory(slash == std::string::npos ? "." : place.substr(0, std::max<size_t>(slash, 1))));
  return report;
}

}  // namespace colossus
