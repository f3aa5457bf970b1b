#include "infer/loaded_model.h"

#include <fmt/format.h>

#include "checkpoint/widen.h"
#include "io/config.h"

namespace colossus {
namespace {

constexpr int64_t kLargeModel = 20'000'000;

// The range of a whole tensor that these bytes are.
Piece range_of(const Checkpoint::Entry& entry, int64_t offset, size_t num_bytes) {
  const int64_t element_bytes = dtype_bytes(entry.dtype);
  Piece piece = whole_piece(entry.shape);
  piece.begin = offset / element_bytes;
  piece.end = piece.begin + static_cast<int64_t>(num_bytes) / element_bytes;
  return piece;
}

StoredParameters parameters_of(const std::shared_ptr<const Checkpoint>& checkpoint) {
  StoredParameters parameters;
  for (const Checkpoint::Entry& entry : checkpoint->tensors())
    if (entry.file == "model")
      parameters[entry.name] = {.type = {entry.shape, entry.dtype},
                                .bytes = {.read =
                                              [checkpoint, &entry](int64_t offset, std::span<std::byte> into) {
                                                return checkpoint->read(entry, range_of(entry, offset, into.size()),
                                                                        into);
                                              },
                                          .chunk_bytes = kCheckpointBlockBytes}};
  return parameters;
}

Result<std::string> text_of(const ModelSource& source, const std::string& name) {
  const auto found = source.state.texts.find(name);
  if (found == source.state.texts.end()) return corrupt(fmt::format("[{}] has no {}", source.place, name));
  return found->second;
}

std::string told(const TensorType& type) {
  return fmt::format("{} {}", dtype_name(type.dtype), type.shape.to_string());
}

// How programs declare it: as it is stored, where they can.
StoredForm form_of(const ParameterSpec& spec, const StoredParameter& stored) {
  const bool is_vector = spec.kind == ParameterSpec::Kind::kVector;
  return {.dtype = is_vector || stored.type.dtype == DType::kF16 ? DType::kF32 : stored.type.dtype,
          .transposed = stored.transposed};
}

Status add_parameters(Device& device, const ModelSource& source, const ModelConfig& config, TensorSet& parameters,
                      StoredForms& forms) {
  ASSIGN_OR_RETURN(const auto table, parameter_table(config));
  for (const ParameterSpec& spec : table) {
    const auto found = source.parameters.find(spec.name);
    const TensorType needed{spec.shape, DType::kF32};
    const auto unfit = [&](const std::string& got) {
      return corrupt(fmt::format("[{}] its parameter {} is {}; the configuration needs {}", source.place, spec.name,
                                 got, told(needed)));
    };
    if (found == source.parameters.end()) return unfit("not there");
    const StoredParameter& stored = found->second;
    const Shape& shape = stored.type.shape;
    if (!((stored.transposed ? shape.transposed() : shape) == spec.shape) || !widens_to_f32(stored.type.dtype))
      return unfit(told(stored.type));
    const StoredForm form = form_of(spec, stored);
    RETURN_IF_ERROR(parameters.add_stored(
        device, spec.name, {shape, form.dtype},
        form.dtype == stored.type.dtype ? stored.bytes : widened(stored.type.dtype, stored.bytes)));
    if (spec.kind != ParameterSpec::Kind::kVector) forms[spec.name] = form;
  }
  return ok_status();
}

Result<ModelConfig> config_of(const ModelSource& source) {
  ASSIGN_OR_RETURN(const std::string text, text_of(source, "model.toml"));
  return parse_config<ModelConfig>(text, source.place + "/model.toml");
}

}  // namespace

Result<LoadedNetwork> load_network(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(Checkpoint found, find_checkpoint(files, path, passed_over));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(found));
  return load_network(device, {checkpoint->path(), checkpoint->state(), parameters_of(checkpoint)});
}

Result<LoadedNetwork> load_network(Device& device, const ModelSource& source) {
  LoadedNetwork network{.path = source.place, .config = {}, .parameters = {}, .stored = {}};
  ASSIGN_OR_RETURN(network.config, config_of(source));
  RETURN_IF_ERROR(add_parameters(device, source, network.config, network.parameters, network.stored));
  return network;
}

Result<LoadedModel> load_model(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(Checkpoint found, find_checkpoint(files, path, passed_over));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(found));
  ASSIGN_OR_RETURN(LoadedModel model,
                   load_model(device, {checkpoint->path(), checkpoint->state(), parameters_of(checkpoint)}));
  model.passed_over = std::move(passed_over);
  return model;
}

Result<LoadedModel> load_model(Device& device, const ModelSource& source) {
  ASSIGN_OR_RETURN(const ModelConfig config, config_of(source));
  ASSIGN_OR_RETURN(const std::string tokenizer_text, text_of(source, "tokenizer.json"));
  auto tokenizer = Tokenizer::from_json(tokenizer_text);
  if (!tokenizer.ok()) return tokenizer.status().at(source.place + "/tokenizer.json");
  if (tokenizer->vocab_size() > config.vocab_size)
    return invalid(fmt::format("[{}] the tokenizer has {} tokens, the model {}", source.place, tokenizer->vocab_size(),
                               config.vocab_size));
  ASSIGN_OR_RETURN(GenerationTokens bounds,
                   text_bounds(source.state.texts, *tokenizer, config.vocab_size, source.place));
  LoadedModel model{.path = source.place,
                    .step = source.state.step,
                    .config = config,
                    .parameters = {},
                    .stored = {},
                    .tokenizer = std::move(*tokenizer),
                    .bounds = std::move(bounds),
                    .passed_over = {}};
  RETURN_IF_ERROR(add_parameters(device, source, model.config, model.parameters, model.stored));
  return model;
}

DType decoding_dtype(const ModelConfig& config) {
  const auto counts = count_parameters(config);
  return counts.ok() && counts->active_matmul >= kLargeModel ? DType::kBF16 : DType::kF32;
}

}  // namespace colossus
