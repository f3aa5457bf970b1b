// The words a family's file is written in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/model.h"
#include "program/builder.h"

namespace colossus {

class ModelWriter {
 public:
  // cache_tokens > 0: attention reads and extends caches of that many tokens.
  ModelWriter(Builder& builder, const ModelConfig& config, const ProgramOptions& options, int64_t cache_tokens);

  const ModelConfig& config() const { return config_; }
  Builder& builder() { return builder_; }
  std::vector<ParameterSpec> take_parameters() { return std::move(parameters_); }

  // A parameter that products read, or a stack of them.
  struct Weight {
    TensorId id;
    bool transposed = false;
  };
  // Parameters, named within the current scope. gain multiplies the initial scale 1 / sqrt(fan in).
  Weight matrix(std::string_view name, int64_t rows, int64_t cols, double gain = 1, const Placement& placement = {});
  // (E, rows, cols); `placement` beside the cut by expert.
  Weight experts(std::string_view name, int64_t rows, int64_t cols, const Placement& placement);
  TensorId table(std::string_view name, int64_t rows, double std);  // (rows, C)
  TensorId vector(std::string_view name, int64_t size, double value, const Placement& placement = {});

  TensorId embed(TensorId table, TensorId position_table = {});              // (B, T, C)
  TensorId rms_norm(TensorId x, std::string_view name, double initial = 1);  // scale parameter `name`
  TensorId head_norm(TensorId x, std::string_view name);                     // the same, of each head (..., H * D)
  TensorId layer_norm(TensorId x, std::string_view name);                    // and name_bias where the model has biases
  // Into a block: x @ weight `name` (+ name_bias where the model has biases). The columns of what it makes are heads,
  // or independent otherwise.
  TensorId linear(TensorId x, std::string_view name, int64_t out);
  // Out of it: the same, from such columns back to the width of the residual stream.
  TensorId linear_back(TensorId x, std::string_view name, double gain = 1);
  TensorId rotary(TensorId x);
  TensorId attention(TensorId q, TensorId k, TensorId v);  // causal, as the configuration says
  TensorId gated(TensorId gate, TensorId up);
  TensorId activation(TensorId x);
  TensorId add(TensorId a, TensorId b) { return builder_.emit(Add{}, {a, b}); }
  TensorId scale(TensorId x, double factor) { return builder_.emit(Scale{.factor = factor}, {x}); }
  TensorId dropout(TensorId x);
  // sum over the chosen experts of gate * expert(x): router, experts' gate, up, down.
  TensorId mixture_of_experts(TensorId x);
  // Gated feed-forward: down(f(gate(x)) * up(x)).
  TensorId gated_mlp(TensorId x, double gain);

  // The end of the model: loss or logits from the final hidden states and the head's weight (V, C).
  void head(TensorId h, TensorId weight);

 private:
  TensorId product(TensorId x, const Weight& weight, TensorId bias, std::string_view name);
  TensorId product_of_experts(TensorId rows, const Weight& weight, TensorId offsets, std::string_view name);
  Weight parameter(ParameterSpec spec);
  std::string scoped(std::string_view name) const;

  Builder& builder_;
  const ModelConfig& config_;
  const ProgramOptions options_;
  const int64_t cache_tokens_;
  TensorId tokens_, targets_, document_start_, positions_, lengths_, last_, rng_;
  TensorId aux_;  // the sum of the auxiliary losses so far
  int64_t dropout_stream_ = 0;
  std::vector<ParameterSpec> parameters_;
};

// One per family.
void write_grok(ModelWriter& m);
void write_llama(ModelWriter& m);
void write_gpt2(ModelWriter& m);

}  // namespace colossus
