// For tests only: a model of each family with random weights, and a tokenizer of single bytes.
#pragma once

#include <string>
#include <vector>

#include "base/rng.h"
#include "device/cpu/cpu_device.h"
#include "infer/decode_session.h"
#include "model/testing.h"
#include "text/bpe_trainer.h"

namespace colossus {

inline ModelConfig random_model_config(Family family) {
  ModelConfig m = two_layer_model(family, 32);
  m.expert_width = 24;
  m.vocab_size = 256;
  m.context = 48;
  if (m.is_grok()) {
    m.embedding_scale = 5;
    m.attn_softcap = 5;
    if (family == Family::kGrok2) {
      m.ffn_width = 40;
      m.logit_softcap = 30;
      m.router_softcap = 30;
      m.attn_temperature_len = 8;
    }
    return m;
  }
  m.ffn_width = 40;
  if (family == Family::kLlama) {
    m.activation = ActivationKind::kSilu;
    m.window = 7;
  }
  return m;
}

struct RandomModel {
  ModelConfig config;
  std::unique_ptr<Device> device = *make_cpu_device({.num_threads = 1});
  TensorSet parameters;

  explicit RandomModel(Family family) : RandomModel(random_model_config(family)) {}
  explicit RandomModel(const ModelConfig& model) : config(model) {
    CHECK(parameters.add_role(*device, *write_loss_program(config, {}), Role::kParameter).ok());
    uint64_t number = 0;
    for (const ParameterSpec& spec : *parameter_table(config)) {
      std::vector<float> values(static_cast<size_t>(spec.shape.num_elements()));
      const RngKey key{.seed = 11, .step = ++number};
      const bool is_vector = spec.kind == ParameterSpec::Kind::kVector;
      const float std = is_vector                                      ? 0.2F
                        : spec.kind == ParameterSpec::Kind::kEmbedding ? 0.4F
                                                                       : 2 * static_cast<float>(spec.init_std);
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = (is_vector ? static_cast<float>(spec.init_value) : 0) + std * random_normal(key, i);
      device->write(*parameters.at(spec.name).memory, 0, std::as_bytes(std::span(values)));
    }
  }

  std::unique_ptr<DecodeSession> session(const DecodeOptions& options = {}) {
    auto made = DecodeSession::create(*device, parameters, config, options);
    CHECK(made.ok(), made.status().message().c_str());
    return std::move(*made);
  }
};

// Token i is byte i of the alphabet: none has more than one byte.
inline Tokenizer byte_tokenizer() {
  auto trained = train_bpe(
      {.vocab_size = 256}, [](DocumentSink sink) { return sink("a"); }, [](const TrainProgress&) {});
  CHECK(trained.ok(), trained.status().message().c_str());
  return std::move(trained->tokenizer);
}

inline std::vector<int32_t> random_tokens(uint64_t stream, int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(random_bits({.seed = 21, .step = stream}, i) % 256);
  return tokens;
}

}  // namespace colossus
