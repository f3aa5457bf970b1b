#include "infer/loaded_model.h"

#include <fmt/format.h>

#include "checkpoint/widen.h"
#include "io/config.h"

namespace colossus {
namespace {

constexpr int64_t kLargeModel = 20'000'000;

// A checkpoint, or what one would hold.
class Source {
 public:
  explicit Source(const Checkpoint& checkpoint)
      : checkpoint_(&checkpoint), place_(checkpoint.path()), state_(checkpoint.state()) {}
  explicit Source(const ModelSource& source) : place_(source.place), state_(source.state) {
    for (const CheckpointTensor& tensor : source.tensors) tensors_.emplace(tensor.name, &tensor);
  }

  const std::string& place() const { return place_; }
  const CheckpointState& state() const { return state_; }

  Result<std::string> text(const std::string& name) const {
    const auto found = state_.texts.find(name);
    if (found == state_.texts.end()) return corrupt(fmt::format("[{}] has no {}", place_, name));
    return found->second;
  }

  // Hands the tensor over in fp32.
  Status read(const std::string& name, const TensorType& needed,
              FunctionRef<void(int64_t offset, std::span<const std::byte> bytes)> part) const {
    if (!checkpoint_) {
      const auto found = tensors_.find(name);
      if (found == tensors_.end()) return unfit(name, needed, "not there");
      const CheckpointTensor& tensor = *found->second;
      if (!fits(tensor.dtype, tensor.shape, needed)) return unfit(name, needed, told(tensor.dtype, tensor.shape));
      return read_widened(tensor, part);
    }
    const Checkpoint::Entry* stored = checkpoint_->find("model", name);
    if (!stored) return unfit(name, needed, "not there");
    if (!fits(stored->dtype, stored->shape, needed)) return unfit(name, needed, told(stored->dtype, stored->shape));
    return read_widened(*checkpoint_, *stored, whole_piece(stored->shape), part);
  }

 private:
  static bool fits(DType dtype, const Shape& shape, const TensorType& needed) {
    return shape == needed.shape && widens_to_f32(dtype);
  }
  static std::string told(DType dtype, const Shape& shape) {
    return fmt::format("{} {}", dtype_name(dtype), shape.to_string());
  }
  Status unfit(const std::string& name, const TensorType& needed, const std::string& found) const {
    return corrupt(fmt::format("[{}] its parameter {} is {}; the configuration needs {} {}", place_, name, found,
                               dtype_name(needed.dtype), needed.shape.to_string()));
  }

  const Checkpoint* checkpoint_ = nullptr;
  const std::string& place_;
  const CheckpointState& state_;
  std::map<std::string_view, const CheckpointTensor*> tensors_;
};

Status read_parameters(Device& device, const Source& source, const ModelConfig& config, TensorSet& parameters) {
  // The smallest program declares every parameter.
  ASSIGN_OR_RETURN(const Program program, write_loss_program(config, {}));
  RETURN_IF_ERROR(parameters.add_role(device, program, Role::kParameter));
  for (const auto& [name, entry] : parameters.entries())
    RETURN_IF_ERROR(source.read(name, entry.type, [&](int64_t offset, std::span<const std::byte> bytes) {
      device.write(*entry.memory, offset, bytes);
    }));
  return ok_status();
}

Result<ModelConfig> config_of(const Source& source) {
  ASSIGN_OR_RETURN(const std::string text, source.text("model.toml"));
  return parse_config<ModelConfig>(text, source.place() + "/model.toml");
}

Result<LoadedNetwork> load_network(Device& device, const Source& source) {
  LoadedNetwork network{.path = source.place(), .config = {}, .parameters = {}};
  ASSIGN_OR_RETURN(network.config, config_of(source));
  RETURN_IF_ERROR(read_parameters(device, source, network.config, network.parameters));
  return network;
}

Result<LoadedModel> load_model(Device& device, const Source& source, std::vector<Status> passed_over) {
  ASSIGN_OR_RETURN(const ModelConfig config, config_of(source));
  ASSIGN_OR_RETURN(const std::string tokenizer_text, source.text("tokenizer.json"));
  auto tokenizer = Tokenizer::from_json(tokenizer_text);
  if (!tokenizer.ok()) return tokenizer.status().at(source.place() + "/tokenizer.json");
  if (tokenizer->vocab_size() > config.vocab_size)
    return invalid(fmt::format("[{}] the tokenizer has {} tokens, the model {}", source.place(),
                               tokenizer->vocab_size(), config.vocab_size));
  ASSIGN_OR_RETURN(GenerationTokens bounds,
                   text_bounds(source.state().texts, *tokenizer, config.vocab_size, source.place()));
  LoadedModel model{.path = source.place(),
                    .step = source.state().step,
                    .config = config,
                    .parameters = {},
                    .tokenizer = std::move(*tokenizer),
                    .bounds = std::move(bounds),
                    .passed_over = std::move(passed_over)};
  RETURN_IF_ERROR(read_parameters(device, source, model.config, model.parameters));
  return model;
}

}  // namespace

Result<LoadedNetwork> load_network(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find_checkpoint(files, path, passed_over));
  return load_network(device, Source(checkpoint));
}

Result<LoadedNetwork> load_network(Device& device, const ModelSource& source) {
  return load_network(device, Source(source));
}

Result<LoadedModel> load_model(FileSystem& files, Device& device, const std::string& path) {
  std::vector<Status> passed_over;
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, find_checkpoint(files, path, passed_over));
  return load_model(device, Source(checkpoint), std::move(passed_over));
}

Result<LoadedModel> load_model(Device& device, const ModelSource& source) {
  return load_model(device, Source(source), {});
}

DType decoding_dtype(const ModelConfig& config) {
  const auto counts = count_parameters(config);
  return counts.ok() && counts->active_matmul >= kLargeModel ? DType::kBF16 : DType::kF32;
}

}  // namespace colossus
