#include "model/model.h"

#include <fmt/format.h>

#include "model/model_writer.h"
#include "program/passes.h"

namespace colossus {
namespace {

void write_family(ModelWriter& writer) {
  switch (writer.config().family) {
    case Family::kGrok1:
    case Family::kGrok2: return write_grok(writer);
    case Family::kLlama: return write_llama(writer);
    case Family::kGpt2: return write_gpt2(writer);
  }
}

Status check(const ModelConfig& config, const ProgramOptions& options) {
  if (config.vocab_size < 1) return invalid("[model] vocab_size = 0; give it, or a tokenizer to take it from");
  if (config.family == Family::kGpt2 && options.tokens > config.context)
    return invalid(fmt::format("[model] {} tokens asked of a model with {} learned positions; use at most {}",
                               options.tokens, config.context, config.context));
  return ok_status();
}

}  // namespace

Result<std::vector<ParameterSpec>> parameter_table(const ModelConfig& config) {
  RETURN_IF_ERROR(check(config, {}));
  Builder builder("parameters");
  ModelWriter writer(builder, config, {}, 0);
  write_family(writer);
  RETURN_IF_ERROR(builder.status());
  return writer.take_parameters();
}

Result<ParameterCounts> count_parameters(const ModelConfig& config) {
  ASSIGN_OR_RETURN(const auto table, parameter_table(config));
  ParameterCounts counts;
  int64_t embedding = 0;
  for (const ParameterSpec& spec : table) {
    const int64_t size = spec.shape.num_elements();
    const bool is_expert = spec.shape.rank() == 3;
    const int64_t active = is_expert ? size / config.num_experts * config.num_experts_per_token : size;
    counts.total += size;
    counts.active += active;
    if (spec.kind == ParameterSpec::Kind::kMatrix) counts.active_matmul += active;
    if (spec.name == "embedding") embedding = size;
  }
  counts.active_matmul += embedding;  // the head is a product of the embedding's size, tied or not
  return counts;
}

Result<double> training_flops_per_token(const ModelConfig& config, int64_t tokens) {
  ASSIGN_OR_RETURN(const auto counts, count_parameters(config));
  return 6.0 * static_cast<double>(counts.active_matmul) +
         12.0 * static_cast<double>(config.num_layers * config.num_heads * config.head_dim * tokens);
}

Result<Program> write_loss_program(const ModelConfig& config, const ProgramOptions& options) {
  RETURN_IF_ERROR(check(config, options));
  Builder builder("loss");
  ModelWriter writer(builder, config, options, 0);
  write_family(writer);
  return builder.finish();
}

Result<Program> write_training_program(const ModelConfig& config, const ProgramOptions& options, Recompute policy) {
  ASSIGN_OR_RETURN(Program forward, write_loss_program(config, options));
  return write_training_program(std::move(forward), policy);
}

Result<Program> write_training_program(Program forward, Recompute policy) {
  const TensorId loss = forward.find("loss");
  CHECK(loss, "a loss program has a loss");
  const DType dtype = forward.tensor(loss).type.dtype;
  forward.name = "microbatch";
  Builder builder(std::move(forward));
  const TensorId loss_grad = builder.input("loss_grad", {}, dtype);
  ASSIGN_OR_RETURN(forward, builder.finish());
  std::vector<GradientSeed> seeds = {{loss, loss_grad}};
  if (const TensorId aux = forward.find("aux_loss")) seeds.push_back({aux, loss_grad});
  ASSIGN_OR_RETURN(Program program, differentiate(std::move(forward), seeds));
  return recompute(eliminate_dead(fuse(std::move(program))), policy);
}

Result<Program> write_decode_program(const ModelConfig& config, const ProgramOptions& options, int64_t cache_tokens) {
  RETURN_IF_ERROR(check(config, options));
  CHECK(cache_tokens >= options.tokens);
  Builder builder("decode");
  ModelWriter writer(builder, config, options, cache_tokens);
  write_family(writer);
  ASSIGN_OR_RETURN(Program program, builder.finish());
  return eliminate_dead(fuse(std::move(program)));
}

}  // namespace colossus
