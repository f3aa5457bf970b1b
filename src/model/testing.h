// For tests only: a network of each family that runs in milliseconds.
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

}  // namespace colossus
