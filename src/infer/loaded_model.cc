#include "infer/loaded_model.h"

#include <fmt/format.h>

#include "checkpoint/widen.h"
#include "io/config.h"

namespace colossus {
namespace {

constexpr int64_t kLargeModel = 20'000'000;

Result<std::string> text_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.state().texts.find(name);
  if (found == checkpoint.state().texts.end()) return corrupt(fmt::format("[{}] has no {}", checkpoint.path(), name));
  return found->second;
}

Status read_parameters(Device& device, const Checkpoint& checkpoint, const ModelConfig& config, TensorSet& parameters) {
  // The smallest program declares every parameter.
  ASSIGN_OR_RETURN(const Program program, write_loss_program(config, {}));
  RETURN_IF_ERROR(parameters.add_role(device, program, Role::kParameter));
  for (const auto& [name, entry] : parameters.entries()) {
    const Checkpoint::Entry* stored = checkpoint.find("model", name);
    if (!stored || !(stored->shape == entry.type.shape) || !widens_to_f32(stored->dtype))
      return corrupt(
          fmt::format("[{}] its parameter {} is {}; the configuration needs {} {}", checkpoint.path(), name,
                      stored ? fmt::format("{} {}", dtype_name(stored->dtype), stored->shape.to_string()) : "not there",
                      dtype_name(entry.type.dtype), entry.type.shape.to_string()));
    RETURN_IF_ERROR(read_widened(
        checkpoint, *stored, whole_piece(stored->shape),
        [&](int64_t offset, std::span<const std::byte> bytes) { device.write(*entry.memory, offset, bytes); }));
  }
  return ok_status();
}

Result<ModelConfig> config_of(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(const std::string text, text_of(checkpoint, "model.toml"));
  return parse_config<ModelConfig>(text, checkpoint.path() + "/model.toml");
}

}  // namespace

Result<LoadedNetwork> load_network(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find_checkpoint(files, path, passed_over));
  LoadedNetwork network{.path = checkpoint.path(), .config = {}, .parameters = {}};
  ASSIGN_OR_RETURN(network.config, config_of(checkpoint));
  RETURN_IF_ERROR(read_parameters(device, checkpoint, network.config, network.parameters));
  return network;
}

Result<LoadedModel> load_model(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find_checkpoint(files, path, passed_over));
  ASSIGN_OR_RETURN(const ModelConfig config, config_of(checkpoint));
  ASSIGN_OR_RETURN(const std::string tokenizer_text, text_of(checkpoint, "tokenizer.json"));
  auto tokenizer = Tokenizer::from_json(tokenizer_text);
  if (!tokenizer.ok()) return tokenizer.status().at(checkpoint.path() + "/tokenizer.json");
  if (tokenizer->vocab_size() > config.vocab_size)
    return invalid(fmt::format("[{}] the tokenizer has {} tokens, the model {}", checkpoint.path(),
                               tokenizer->vocab_size(), config.vocab_size));
  LoadedModel model{.path = checkpoint.path(),
                    .step = checkpoint.state().step,
                    .config = config,
                    .parameters = {},
                    .tokenizer = std::move(*tokenizer),
                    .passed_over = std::move(passed_over)};
  RETURN_IF_ERROR(read_parameters(device, checkpoint, model.config, model.parameters));
  return model;
}

DType decoding_dtype(const ModelConfig& config) {
  const auto counts = count_parameters(config);
  return counts.ok() && counts->active_matmul >= kLargeModel ? DType::kBF16 : DType::kF32;
}

}  // namespace colossus
