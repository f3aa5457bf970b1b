#include "model/model_config.h"

#include <fmt/format.h>

namespace colossus {

void ModelConfig::visit_fields(FieldVisitor& v) {
  v.field("family", family, "the network's form");
  v.field("num_layers", num_layers, "layers", {.min = 1, .max = 10000});
  v.field("width", width, "size of the residual stream", {.min = 1, .max = 1 << 20});
  v.field("num_heads", num_heads, "query heads", {.min = 1, .max = 1 << 16});
  v.field("num_kv_heads", num_kv_heads, "key and value heads; divides num_heads", {.min = 1, .max = 1 << 16});
  v.field("head_dim", head_dim, "size of a head", {.min = 1, .max = 1 << 12});
  v.field("ffn_width", ffn_width, "inner size of the dense feed-forward block; 0: none (only where there are experts)",
          {.min = 0, .max = 1 << 22});
  v.field("num_experts", num_experts, "experts of a layer; 0: none", {.min = 0, .max = 4096});
  v.field("num_experts_per_token", num_experts_per_token, "experts that see a token", {.min = 1, .max = 64});
  v.field("expert_width", expert_width, "inner size of an expert", {.min = 0, .max = 1 << 22});
  v.field("vocab_size", vocab_size, "tokens of the vocabulary; 0: as many as the tokenizer has",
          {.unit = "tokens", .min = 0, .max = 1 << 24});
  v.field("context", context, "longest sequence", {.unit = "tokens", .min = 1, .max = 1 << 24});
  v.field("tie_embeddings", tie_embeddings, "the output head is the embedding");
  v.field("biases", biases, "biases of projections and norms (gpt-2)");
  v.field("activation", activation, "nonlinearity of the feed-forward blocks");
  v.field("rope_theta", rope_theta, "base of the rotary embedding", {.above = 0});
  v.field("rope_factor", rope_factor,
          "slow pairs of the rotary embedding turn so many times slower (Llama 3.1); 1: off", {.min = 1});
  v.field("rope_low_turns", rope_low_turns, "pairs are slow below so many turns in rope_original_context",
          {.unit = "turns", .above = 0});
  v.field("rope_high_turns", rope_high_turns, "pairs turn as ever above so many", {.unit = "turns", .above = 0});
  v.field("rope_original_context", rope_original_context, "what turns are counted in", {.unit = "tokens", .min = 1});
  v.field("norm_eps", norm_eps, "added to the mean square in norms",
          {
              .above = 0,
          });
  v.field("embedding_scale", embedding_scale, "embeddings are multiplied by it");
  v.field("logit_scale", logit_scale, "logits are multiplied by it");
  v.field("attn_softcap", attn_softcap, "scores become c tanh(s / c); 0: off", {.min = 0});
  v.field("router_softcap", router_softcap, "router logits become c tanh(z / c); 0: off", {.min = 0});
  v.field("logit_softcap", logit_softcap, "logits become c tanh(x / c); 0: off", {.min = 0});
  v.field("attn_temperature_len", attn_temperature_len, "positions beyond it have sharper attention; 0: off",
          {.unit = "tokens", .min = 0});
  v.field("window", window, "tokens a token sees, itself included; 0: all", {.unit = "tokens", .min = 0});
  v.field("qk_norm", qk_norm, "queries and keys are normed by heads (llama family: Qwen3)");
  v.field("renormalize_gates", renormalize_gates, "the chosen experts' gates sum to 1");
  v.field("balance_loss", balance_loss, "coefficient of the load-balancing loss; 0: off", {.min = 0});
  v.field("z_loss", z_loss, "coefficient of the router z-loss; 0: off", {.min = 0});
  v.field("dropout", dropout, "share of block outputs zeroed in training", {.min = 0, .max = 0.99});
}

void ModelConfig::check_fields(FieldChecker& c) const {
  if (num_heads % num_kv_heads != 0) {
    std::string divisors;
    for (int64_t k = num_kv_heads; k > 0 && divisors.empty(); --k)
      if (num_heads % k == 0) divisors = std::to_string(k);
    for (int64_t k = num_kv_heads + 1; k <= num_heads; ++k)
      if (num_heads % k == 0) {
        divisors += fmt::format(" or {}", k);
        break;
      }
    c.require(false, "num_kv_heads", fmt::format("does not divide num_heads = {}; try {}", num_heads, divisors));
  }
  if (family != Family::kGpt2)
    c.require(head_dim % 2 == 0, "head_dim", "is odd; the rotary embedding turns pairs, so it must be even");
  if (is_grok()) {
    c.require(num_experts > 0 || ffn_width > 0, "num_experts",
              "is 0 and so is ffn_width; a layer needs experts, a dense block or both");
    if (num_experts > 0)
      c.require(expert_width > 0, "expert_width", "is 0; experts need an inner size, such as 4/3 of the width");
  } else {
    c.require(ffn_width > 0 || has_experts(), "ffn_width",
              "is 0; the feed-forward block needs an inner size, such as 4 times the width");
  }
  if (has_experts())
    c.require(num_experts_per_token <= num_experts, "num_experts_per_token",
              fmt::format("is more than num_experts = {}", num_experts));
  c.require(!qk_norm || family == Family::kLlama, "qk_norm", "is for the llama family alone");
  c.require(rope_high_turns > rope_low_turns, "rope_high_turns",
            fmt::format("is not above rope_low_turns = {}", rope_low_turns));
}

}  // namespace colossus
