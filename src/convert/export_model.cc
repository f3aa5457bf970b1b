#include "convert/export_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "checkpoint/widen.h"
#include "convert/assemble.h"
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

const std::string* text_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.state().texts.find(name);
  return found == checkpoint.state().texts.end() ? nullptr : &found->second;
}

std::string torch_name(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : dtype == DType::kF16 ? "float16" : "float32";
}
std::string safetensors_name(DType dtype) {
  return dtype == DType::kBF16 ? "BF16" : dtype == DType::kF16 ? "F16" : "F32";
}

// What decides logits: how a network is trained is not in the files of others.
std::string network_text(ModelConfig config) {
  config.dropout = config.balance_loss = config.z_loss = 0;
  if (!config.has_experts()) {
    config.num_experts = 0;
    config.num_experts_per_token = ModelConfig().num_experts_per_token;
    config.expert_width = ModelConfig().expert_width;
  }
  return print_config(config);
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

Box box_of(const MatrixLink& link, const SourceTensor& source, const TheirTensor& theirs, int64_t head_dim) {
  Box box{.source = &source, .source_row = link.matrix * link.in};
  if (link.layout == MatrixOrder::kSame) {
    box.row = link.their_matrix * link.in;
    box.col = link.first_out;
    box.rows = link.in;
    box.cols = link.out;
    return box;
  }
  box.row = link.their_matrix * theirs.out + link.first_out;
  box.rows = link.out;
  box.cols = link.in;
  box.transposed = true;
  box.head_dim = link.layout == MatrixOrder::kTransposedPairs ? head_dim : 0;
  return box;
}

// Our tensors as sources; each is verified block by block as it is read.
Result<std::vector<SourceTensor>> open_sources(const Checkpoint& checkpoint, const NameMap& map) {
  std::vector<SourceTensor> sources;
  for (const ParameterSpec& spec : map.ours) {
    const Checkpoint::Entry* entry = checkpoint.find("model", spec.name);
    if (!entry || !(entry->shape == spec.shape) || !widens_to_f32(entry->dtype))
      return corrupt(fmt::format(
          "[{}] its parameter {} is {}; model.toml needs {} in f32, bf16 or f16", checkpoint.path(), spec.name,
          entry ? fmt::format("{} {}", dtype_name(entry->dtype), entry->shape.to_string()) : "not there",
          spec.shape.to_string()));
    sources.push_back({.name = spec.name,
                       .dtype = entry->dtype,
                       .shape = spec.shape,
                       .read =
                           [&checkpoint, entry](int64_t offset, std::span<std::byte> into) {
                             Piece piece = whole_piece(entry->shape);
                             piece.begin = offset / dtype_bytes(entry->dtype);
                             piece.end = piece.begin + static_cast<int64_t>(into.size()) / dtype_bytes(entry->dtype);
                             return checkpoint.read(*entry, piece, into);
                           },
                       .place = checkpoint.path()});
  }
  return sources;
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
    std::vector<Box> boxes;
    const DType dtype = sources[map.links[theirs.links.front()].ours].dtype;
    for (const size_t i : theirs.links) {
      const MatrixLink& link = map.links[i];
      if (sources[link.ours].dtype != dtype)
        return invalid(fmt::format("{} is made of tensors of two types, {} and {}", theirs.name, dtype_name(dtype),
                                   dtype_name(sources[link.ours].dtype)));
      boxes.push_back(box_of(link, sources[link.ours], theirs, head_dim));
    }
    const int64_t bytes = theirs.shape.num_elements() * dtype_bytes(dtype);
    if (shards.files.empty() || bytes_of_file + bytes > max_file_bytes) {
      shards.files.push_back({.name = {}, .metadata = {{"format", "pt"}}, .tensors = {}});
      bytes_of_file = 0;
    }
    bytes_of_file += bytes;
    shards.num_bytes += bytes;
    const auto assembly = std::make_shared<Assembly>(theirs.shape, dtype, std::move(boxes), buffers);
    shards.files.back().tensors.push_back(
        {.spec = {theirs.name, safetensors_name(dtype), {theirs.shape.sizes().begin(), theirs.shape.sizes().end()}},
         .read = [assembly](int64_t offset, std::span<std::byte> into) { return assembly->read(offset, into); }});
  }
  for (size_t i = 0; i < shards.files.size(); ++i) {
    FileToWrite& file = shards.files[i];
    file.name = shards.files.size() == 1 ? "model.safetensors"
                                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.files.size());
    for (const TensorToWrite& tensor : file.tensors) shards.file_of[tensor.spec.name] = file.name;
  }
  return shards;
}

Result<GenerationTokens> generation_of(const Checkpoint& checkpoint) {
  const std::string* text = text_of(checkpoint, kGenerationFile);
  if (!text) return GenerationTokens();
  return parse_config<GenerationTokens>(*text, checkpoint.path() + "/" + kGenerationFile);
}

// The imported one where the network is what it says, else one of our own.
std::string config_json(const Checkpoint& checkpoint, const ModelConfig& config, const GenerationTokens& generation,
                        const Names& names, DType dtype) {
  if (const std::string* carried = text_of(checkpoint, std::string(kCarriedPrefix) + "config.json"))
    if (const auto json = parse_checked_json(*carried, "config.json"); json.ok())
      if (const auto read = read_hf_config(*json, "config.json");
          read.ok() && read->family == names.family && network_text(read->config) == network_text(config))
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
  ASSIGN_OR_RETURN(const PortableTokenizer portable, portable_json(*tokenizer));
  for (const std::string& difference : portable.differences) notes.push_back("tokenizer.json: " + difference);
  RETURN_IF_ERROR(write_file_atomically(files, directory + "/tokenizer.model", tokenizer->spec().sentencepiece));
  return write_file_atomically(files, directory + "/tokenizer.json", portable.json);
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
  const std::string wanted = network_text(config), got = network_text(read.config);
  for (size_t a = 0, b = 0; a < wanted.size() && b < got.size();) {
    const size_t a_end = wanted.find('\n', a), b_end = got.find('\n', b);
    if (wanted.substr(a, a_end - a) != got.substr(b, b_end - b))
      return invalid(fmt::format("[model.toml] {} cannot be said in a config.json of {}, where it would be {}",
                                 wanted.substr(a, a_end - a), read.family->name, got.substr(b, b_end - b)));
    a = a_end + 1;
    b = b_end + 1;
  }
  return ok_status();
}

Result<std::string> free_place(FileSystem& files, const std::string& to) {
  std::string place = to;
  while (place.size() > 1 && place.ends_with('/')) place.pop_back();
  const auto present = files.stat(place);
  if (present.ok()) return invalid(fmt::format("[{}] is there already; give a directory that is not", place));
  if (present.status().code() != ErrorCode::kNotFound) return present.status();
  if (!files.can_rename(place)) return invalid(fmt::format("[{}] is no local disk; export to one and copy it", place));
  return place;
}

}  // namespace

Result<ExportReport> export_hf(FileSystem& files, const std::string& from, const std::string& to,
                               const ExportOptions& options) {
  ASSIGN_OR_RETURN(const std::string place, free_place(files, to));
  ExportReport report;
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find_checkpoint(files, from, passed_over));
  for (const Status& status : passed_over) report.notes.push_back("passed over: " + status.message());
  const std::string* model_text = text_of(checkpoint, "model.toml");
  if (!model_text) return corrupt(fmt::format("[{}] has no model.toml", checkpoint.path()));
  ASSIGN_OR_RETURN(report.config, parse_config<ModelConfig>(*model_text, checkpoint.path() + "/model.toml"));
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
