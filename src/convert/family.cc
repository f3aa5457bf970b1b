#include "convert/family.h"

#include <algorithm>

namespace colossus {
namespace {

using enum MatrixOrder;

std::vector<NameRule> joined(std::initializer_list<std::vector<NameRule>> tables) {
  std::vector<NameRule> all;
  for (const auto& table : tables) all.insert(all.end(), table.begin(), table.end());
  return all;
}

const std::vector<NameRule>& around() {
  static const std::vector<NameRule> rules = {
      {"embedding", "model.embed_tokens.weight"},
      {"head", "lm_head.weight"},
      {"final_norm", "model.norm.weight"},
  };
  return rules;
}

const std::vector<NameRule>& self_attention() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.attn.q", "model.layers.{l}.self_attn.q_proj.weight", kTransposed},
      {"layers.{l}.attn.k", "model.layers.{l}.self_attn.k_proj.weight", kTransposed},
      {"layers.{l}.attn.v", "model.layers.{l}.self_attn.v_proj.weight", kTransposed},
      {"layers.{l}.attn.o", "model.layers.{l}.self_attn.o_proj.weight", kTransposed},
      {"layers.{l}.attn.q_norm", "model.layers.{l}.self_attn.q_norm.weight"},
      {"layers.{l}.attn.k_norm", "model.layers.{l}.self_attn.k_norm.weight"},
  };
  return rules;
}

const std::vector<NameRule>& two_norms() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.attn_norm", "model.layers.{l}.input_layernorm.weight"},
      {"layers.{l}.mlp_norm", "model.layers.{l}.post_attention_layernorm.weight"},
  };
  return rules;
}

const std::vector<NameRule>& dense_mlp() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.mlp.gate", "model.layers.{l}.mlp.gate_proj.weight", kTransposed},
      {"layers.{l}.mlp.up", "model.layers.{l}.mlp.up_proj.weight", kTransposed},
      {"layers.{l}.mlp.down", "model.layers.{l}.mlp.down_proj.weight", kTransposed},
  };
  return rules;
}

// Mixtral's names, which Grok-2 took over.
const std::vector<NameRule>& sparse_moe() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.moe.router", "model.layers.{l}.block_sparse_moe.gate.weight", kTransposed},
      {"layers.{l}.moe.gate", "model.layers.{l}.block_sparse_moe.experts.{e}.w1.weight", kTransposed},
      {"layers.{l}.moe.up", "model.layers.{l}.block_sparse_moe.experts.{e}.w3.weight", kTransposed},
      {"layers.{l}.moe.down", "model.layers.{l}.block_sparse_moe.experts.{e}.w2.weight", kTransposed},
  };
  return rules;
}

const std::vector<NameRule>& qwen_moe() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.moe.router", "model.layers.{l}.mlp.gate.weight", kTransposed},
      {"layers.{l}.moe.gate", "model.layers.{l}.mlp.experts.{e}.gate_proj.weight", kTransposed},
      {"layers.{l}.moe.up", "model.layers.{l}.mlp.experts.{e}.up_proj.weight", kTransposed},
      {"layers.{l}.moe.down", "model.layers.{l}.mlp.experts.{e}.down_proj.weight", kTransposed},
  };
  return rules;
}

// Its layers multiply from the right ("Conv1D"), so weights are (in, out) as ours.
const std::vector<NameRule>& gpt2() {
  static const std::vector<NameRule> rules = {
      {"embedding", "transformer.wte.weight"},
      {"position_embedding", "transformer.wpe.weight"},
      {"head", "lm_head.weight"},
      {"final_norm", "transformer.ln_f.weight"},
      {"final_norm_bias", "transformer.ln_f.bias"},
      {"layers.{l}.attn_norm", "transformer.h.{l}.ln_1.weight"},
      {"layers.{l}.attn_norm_bias", "transformer.h.{l}.ln_1.bias"},
      {"layers.{l}.attn.q", "transformer.h.{l}.attn.c_attn.weight"},
      {"layers.{l}.attn.k", "transformer.h.{l}.attn.c_attn.weight"},
      {"layers.{l}.attn.v", "transformer.h.{l}.attn.c_attn.weight"},
      {"layers.{l}.attn.q_bias", "transformer.h.{l}.attn.c_attn.bias"},
      {"layers.{l}.attn.k_bias", "transformer.h.{l}.attn.c_attn.bias"},
      {"layers.{l}.attn.v_bias", "transformer.h.{l}.attn.c_attn.bias"},
      {"layers.{l}.attn.o", "transformer.h.{l}.attn.c_proj.weight"},
      {"layers.{l}.attn.o_bias", "transformer.h.{l}.attn.c_proj.bias"},
      {"layers.{l}.mlp_norm", "transformer.h.{l}.ln_2.weight"},
      {"layers.{l}.mlp_norm_bias", "transformer.h.{l}.ln_2.bias"},
      {"layers.{l}.mlp.up", "transformer.h.{l}.mlp.c_fc.weight"},
      {"layers.{l}.mlp.up_bias", "transformer.h.{l}.mlp.c_fc.bias"},
      {"layers.{l}.mlp.down", "transformer.h.{l}.mlp.c_proj.weight"},
      {"layers.{l}.mlp.down_bias", "transformer.h.{l}.mlp.c_proj.bias"},
  };
  return rules;
}

const std::vector<NameRule>& grok1() {
  static const std::vector<NameRule> rules = {
      {"embedding", "model.embed_tokens.weight"},
      {"head", "lm_head.weight"},
      {"final_norm", "model.norm.scale"},
      {"layers.{l}.attn_norm", "model.layers.{l}.pre_attn_norm.scale"},
      {"layers.{l}.attn_post_norm", "model.layers.{l}.post_attn_norm.scale"},
      {"layers.{l}.mlp_norm", "model.layers.{l}.pre_moe_norm.scale"},
      {"layers.{l}.mlp_post_norm", "model.layers.{l}.post_moe_norm.scale"},
      {"layers.{l}.attn.q", "model.layers.{l}.attn.q_proj.weight", kTransposed},
      {"layers.{l}.attn.k", "model.layers.{l}.attn.k_proj.weight", kTransposed},
      {"layers.{l}.attn.v", "model.layers.{l}.attn.v_proj.weight", kTransposed},
      {"layers.{l}.attn.o", "model.layers.{l}.attn.o_proj.weight", kTransposed},
      {"layers.{l}.moe.router", "model.layers.{l}.moe_block.gate.weight", kTransposed},
      {"layers.{l}.moe.gate", "model.layers.{l}.moe_block.experts.{e}.linear.weight", kTransposed},
      {"layers.{l}.moe.up", "model.layers.{l}.moe_block.experts.{e}.linear_v.weight", kTransposed},
      {"layers.{l}.moe.down", "model.layers.{l}.moe_block.experts.{e}.linear_1.weight", kTransposed},
  };
  return rules;
}

const std::vector<NameRule>& grok2_norms() {
  static const std::vector<NameRule> rules = {
      {"layers.{l}.attn_norm", "model.layers.{l}.pre_attn_norm.weight"},
      {"layers.{l}.attn_post_norm", "model.layers.{l}.post_attn_norm.weight"},
      {"layers.{l}.mlp_norm", "model.layers.{l}.pre_moe_norm.weight"},
      {"layers.{l}.mlp_post_norm", "model.layers.{l}.post_moe_norm.weight"},
  };
  return rules;
}

ModelFamily llama_like(std::string_view name, std::string_view architecture,
                       const std::vector<NameRule>& feed_forward) {
  return {.name = name,
          .model_type = name,
          .architecture = architecture,
          .rules = joined({around(), self_attention(), two_norms(), feed_forward}),
          .no_parameters = {"rotary_emb.inv_freq"},
          .base = "model."};
}

}  // namespace

std::span<const ModelFamily> hf_families() {
  static const std::vector<ModelFamily> families = {
      {.name = "gpt2",
       .model_type = "gpt2",
       .architecture = "GPT2LMHeadModel",
       .rules = gpt2(),
       .no_parameters = {".attn.bias", ".attn.masked_bias"},
       .base = "transformer."},
      llama_like("llama", "LlamaForCausalLM", dense_mlp()),
      llama_like("mistral", "MistralForCausalLM", dense_mlp()),
      llama_like("mixtral", "MixtralForCausalLM", sparse_moe()),
      llama_like("qwen3", "Qwen3ForCausalLM", dense_mlp()),
      llama_like("qwen3_moe", "Qwen3MoeForCausalLM", qwen_moe()),
      {.name = "grok-1", .model_type = "grok-1", .architecture = "Grok1ModelForCausalLM", .rules = grok1()},
      {.name = "grok-2",
       .model_type = "git",
       .architecture = "Grok1ForCausalLM",
       .rules = joined({around(), self_attention(), grok2_norms(), dense_mlp(), sparse_moe()})},
  };
  return families;
}

const ModelFamily* find_family(std::string_view name) {
  const auto families = hf_families();
  const auto found = std::ranges::find(families, name, &ModelFamily::name);
  return found == families.end() ? nullptr : &*found;
}

const ModelFamily& family_of(const ModelConfig& model) {
  const auto name = [&]() -> std::string_view {
    switch (model.family) {
      case Family::kGpt2: return "gpt2";
      case Family::kGrok1: return "grok-1";
      case Family::kGrok2: return "grok-2";
      case Family::kLlama: break;
    }
    if (model.qk_norm) return model.has_experts() ? "qwen3_moe" : "qwen3";
    if (model.has_experts()) return "mixtral";
    return model.window > 0 ? "mistral" : "llama";
  };
  return *find_family(name());
}

const ModelFamily& grok1_release() {
  static const ModelFamily family = {
      .name = "grok-1-release",
      .model_type = "grok-1",
      .architecture = "Grok1ModelForCausalLM",
      .rules = {
          {"embedding", "transformer/in_out_embed/embeddings"},
          {"final_norm", "transformer/rms_norm/scale"},
          {"layers.{l}.attn_norm", "transformer/decoder_layer_{l}/rms_norm/scale"},
          {"layers.{l}.attn_post_norm", "transformer/decoder_layer_{l}/rms_norm_1/scale"},
          {"layers.{l}.mlp_norm", "transformer/decoder_layer_{l}/rms_norm_2/scale"},
          {"layers.{l}.mlp_post_norm", "transformer/decoder_layer_{l}/rms_norm_3/scale"},
          {"layers.{l}.attn.q", "transformer/decoder_layer_{l}/multi_head_attention/query/w"},
          {"layers.{l}.attn.k", "transformer/decoder_layer_{l}/multi_head_attention/key/w"},
          {"layers.{l}.attn.v", "transformer/decoder_layer_{l}/multi_head_attention/value/w"},
          {"layers.{l}.attn.o", "transformer/decoder_layer_{l}/multi_head_attention/linear/w"},
          {"layers.{l}.moe.router", "transformer/decoder_layer_{l}/router/w"},
          {"layers.{l}.moe.gate", "transformer/decoder_layer_{l}/moe/linear/w"},
          {"layers.{l}.moe.up", "transformer/decoder_layer_{l}/moe/linear_v/w"},
          {"layers.{l}.moe.down", "transformer/decoder_layer_{l}/moe/linear_1/w"},
      }};
  return family;
}

std::span<const NameRule> llama2c_rules() {
  static const std::vector<NameRule> rules = {
      {"embedding", "token_embedding_table"},
      {"head", "wcls"},
      {"final_norm", "rms_final_weight"},
      {"layers.{l}.attn_norm", "rms_att_weight.{l}"},
      {"layers.{l}.mlp_norm", "rms_ffn_weight.{l}"},
      {"layers.{l}.attn.q", "wq.{l}", kTransposedPairs},
      {"layers.{l}.attn.k", "wk.{l}", kTransposedPairs},
      {"layers.{l}.attn.v", "wv.{l}", kTransposed},
      {"layers.{l}.attn.o", "wo.{l}", kTransposed},
      {"layers.{l}.mlp.gate", "w1.{l}", kTransposed},
      {"layers.{l}.mlp.down", "w2.{l}", kTransposed},
      {"layers.{l}.mlp.up", "w3.{l}", kTransposed},
  };
  return rules;
}

}  // namespace colossus
