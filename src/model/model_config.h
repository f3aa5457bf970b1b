// A network, whatever runs it. configs/models/*.toml hold the published ones.
#pragma once

#include <cstdint>
#include <string>

#include "io/fields.h"
#include "ops/activation/activation_kind.h"

namespace colossus {

enum class Family { kGrok1, kGrok2, kLlama, kGpt2 };
inline auto field_choices(Family) {
  return std::to_array<FieldChoice<Family>>(
      {{Family::kGrok1, "grok-1"}, {Family::kGrok2, "grok-2"}, {Family::kLlama, "llama"}, {Family::kGpt2, "gpt-2"}});
}
inline auto field_choices(ActivationKind) {
  return std::to_array<FieldChoice<ActivationKind>>(
      {{ActivationKind::kGeluTanh, "gelu_tanh"}, {ActivationKind::kSilu, "silu"}, {ActivationKind::kRelu2, "relu2"}});
}

struct ModelConfig {
  Family family = Family::kGrok1;
  int64_t num_layers = 4;    // L
  int64_t width = 256;       // C
  int64_t num_heads = 4;     // H
  int64_t num_kv_heads = 2;  // K
  int64_t head_dim = 64;     // D
  int64_t ffn_width = 0;     // F of the dense feed-forward block; in Grok it stands beside the experts, in Llama it
                             // replaces them
  int64_t num_experts = 8;   // E
  int64_t num_experts_per_token = 2;
  int64_t expert_width = 384;  // F of one expert
  int64_t vocab_size = 0;      // V; 0: the tokenizer's
  int64_t context = 256;       // most tokens of a sequence
  bool tie_embeddings = true;
  bool biases = false;  // of projections and norms (GPT-2)
  ActivationKind activation = ActivationKind::kGeluTanh;
  double rope_theta = 10000;
  double rope_factor = 1;  // with the next three: ops/rotary
  double rope_low_turns = 1;
  double rope_high_turns = 4;
  int64_t rope_original_context = 8192;
  double norm_eps = 1e-5;
  double embedding_scale = 1;
  double logit_scale = 1;
  double attn_softcap = 0;
  double router_softcap = 0;
  double logit_softcap = 0;
  int64_t attn_temperature_len = 0;
  int64_t window = 0;
  bool qk_norm = false;  // queries and keys are normed by heads (Qwen3)
  bool renormalize_gates = false;
  double balance_loss = 0;
  double z_loss = 0;
  double dropout = 0;

  // Whether a layer has experts: in Grok beside the dense block, in Llama in its place (Mixtral).
  bool has_experts() const {
    return num_experts > 0 && (is_grok() || (family == Family::kLlama && ffn_width == 0 && expert_width > 0));
  }
  bool is_grok() const { return family == Family::kGrok1 || family == Family::kGrok2; }
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

}  // namespace colossus
