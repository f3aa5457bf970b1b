#include "convert/export_source.h"

#include <fmt/format.h>

#include "checkpoint/widen.h"
#include "io/config.h"

namespace colossus {
namespace {

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

}  // namespace

Result<ExportSource> open_export_source(FileSystem& files, const std::string& from) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(Checkpoint checkpoint, find_checkpoint(files, from, passed_over));
  const std::string* model_text = text_of(checkpoint, "model.toml");
  if (!model_text) return corrupt(fmt::format("[{}] has no model.toml", checkpoint.path()));
  ASSIGN_OR_RETURN(const ModelConfig config, parse_config<ModelConfig>(*model_text, checkpoint.path() + "/model.toml"));
  ExportSource source{.checkpoint = std::move(checkpoint), .config = config, .notes = {}};
  for (const Status& status : passed_over) source.notes.push_back("passed over: " + status.message());
  return source;
}

const std::string* text_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.state().texts.find(name);
  return found == checkpoint.state().texts.end() ? nullptr : &found->second;
}

Result<GenerationTokens> generation_of(const Checkpoint& checkpoint) {
  const std::string* text = text_of(checkpoint, kGenerationFile);
  if (!text) return GenerationTokens();
  return parse_config<GenerationTokens>(*text, checkpoint.path() + "/" + kGenerationFile);
}

ModelConfig network_of(ModelConfig config) {
  config.dropout = config.balance_loss = config.z_loss = 0;
  if (!config.has_experts()) {
    config.num_experts = 0;
    config.num_experts_per_token = ModelConfig().num_experts_per_token;
    config.expert_width = ModelConfig().expert_width;
  }
  return config;
}

Status check_same_network(const ModelConfig& wanted_config, const ModelConfig& read_back, const std::string& place) {
  const std::string wanted = print_config(network_of(wanted_config)), got = print_config(network_of(read_back));
  for (size_t a = 0, b = 0; a < wanted.size() && b < got.size();) {
    const size_t a_end = wanted.find('\n', a), b_end = got.find('\n', b);
    if (wanted.substr(a, a_end - a) != got.substr(b, b_end - b))
      return invalid(fmt::format("[model.toml] {} cannot be said in {}, where it would be {}",
                                 wanted.substr(a, a_end - a), place, got.substr(b, b_end - b)));
    a = a_end + 1;
    b = b_end + 1;
  }
  return ok_status();
}

Result<std::string> free_place(FileSystem& files, const std::string& to) {
  std::string place = to;
  while (place.size() > 1 && place.ends_with('/')) place.pop_back();
  const auto present = files.stat(place);
  if (present.ok()) return invalid(fmt::format("[{}] is there already; give a name that is not", place));
  if (present.status().code() != ErrorCode::kNotFound) return present.status();
  if (!files.can_rename(place)) return invalid(fmt::format("[{}] is no local disk; export to one and copy it", place));
  return place;
}

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

Result<MadeTensor> make_tensor(const NameMap& map, const TheirTensor& theirs, const std::vector<SourceTensor>& sources,
                               int64_t head_dim, const std::shared_ptr<AssemblyBuffers>& buffers) {
  MadeTensor made{.dtype = sources[map.links[theirs.links.front()].ours].dtype, .assembly = nullptr};
  std::vector<Box> boxes;
  for (const size_t i : theirs.links) {
    const MatrixLink& link = map.links[i];
    if (sources[link.ours].dtype != made.dtype)
      return invalid(fmt::format("{} is made of tensors of two types, {} and {}", theirs.name, dtype_name(made.dtype),
                                 dtype_name(sources[link.ours].dtype)));
    boxes.push_back(box_of(link, sources[link.ours], theirs, head_dim));
  }
  made.assembly = std::make_shared<Assembly>(theirs.shape, made.dtype, std::move(boxes), buffers);
  return made;
}

}  // namespace colossus
