// For tests only: networks of each family that run in milliseconds.
#pragma once

#include "model/model_config.h"

namespace colossus {

// Two layers, four heads, two of them with keys and values of their own; Groks have four experts, the others a dense
// block. Widths of the blocks, vocabulary, context and what else matters are the caller's.
inline ModelConfig two_layer_model(Family family, int64_t width) {
  ModelConfig m{.family = family,
                .num_layers = 2,
                .width = width,
                .num_heads = 4,
                .num_kv_heads = 2,
                .head_dim = width / 4,
                .num_experts = 4,
                .num_experts_per_token = 2};
  if (!m.is_grok()) m.num_experts = 0;
  m.biases = family == Family::kGpt2;
  return m;
}

// With every part that a family has. The vocabulary is the caller's.
inline ModelConfig tiny_model(Family family) {
  ModelConfig m = two_layer_model(family, 16);
  m.expert_width = 24;
  m.context = 16;
  if (m.is_grok()) {
    m.embedding_scale = 4;
    m.attn_softcap = 30;
    m.balance_loss = 0.01;
    m.z_loss = 0.001;
    m.ffn_width = family == Family::kGrok2 ? 24 : 0;
    return m;
  }
  m.ffn_width = 32;
  m.activation = family == Family::kLlama ? ActivationKind::kSilu : ActivationKind::kGeluTanh;
  return m;
}

}  // namespace colossus
