#include "convert/gguf_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace colossus {
namespace {

using enum MatrixOrder;
using enum GgufArchitecture;

struct NamedArchitecture {
  std::string_view name;
  GgufArchitecture architecture;
};
constexpr std::array kArchitectures = {NamedArchitecture{"llama", kLlama}, NamedArchitecture{"gpt2", kGpt2},
                                       NamedArchitecture{"qwen3", kQwen3}, NamedArchitecture{"qwen3moe", kQwen3Moe},
                                       NamedArchitecture{"grok", kGrok}};

// llama.cpp turns neighbours in heads of "llama", halves in all others.
void add_attention(std::vector<NameRule>& rules, MatrixOrder turned) {
  rules.insert(rules.end(), {{"layers.{l}.attn_norm", "blk.{l}.attn_norm.weight"},
                             {"layers.{l}.attn.q", "blk.{l}.attn_q.weight", turned},
                             {"layers.{l}.attn.k", "blk.{l}.attn_k.weight", turned},
                             {"layers.{l}.attn.v", "blk.{l}.attn_v.weight", kTransposed},
                             {"layers.{l}.attn.o", "blk.{l}.attn_output.weight", kTransposed},
                             {"layers.{l}.attn.q_norm", "blk.{l}.attn_q_norm.weight"},
                             {"layers.{l}.attn.k_norm", "blk.{l}.attn_k_norm.weight"}});
}

void add_feed_forward(std::vector<NameRule>& rules, bool expert_by_expert) {
  rules.insert(rules.end(), {{"layers.{l}.mlp_norm", "blk.{l}.ffn_norm.weight"},
                             {"layers.{l}.mlp.gate", "blk.{l}.ffn_gate.weight", kTransposed},
                             {"layers.{l}.mlp.up", "blk.{l}.ffn_up.weight", kTransposed},
                             {"layers.{l}.mlp.down", "blk.{l}.ffn_down.weight", kTransposed},
                             {"layers.{l}.moe.router", "blk.{l}.ffn_gate_inp.weight", kTransposed}});
  if (expert_by_expert)
    rules.insert(rules.end(), {{"layers.{l}.moe.gate", "blk.{l}.ffn_gate.{e}.weight", kTransposed},
                               {"layers.{l}.moe.up", "blk.{l}.ffn_up.{e}.weight", kTransposed},
                               {"layers.{l}.moe.down", "blk.{l}.ffn_down.{e}.weight", kTransposed}});
  else
    rules.insert(rules.end(), {{"layers.{l}.moe.gate", "blk.{l}.ffn_gate_exps.weight", kTransposed},
                               {"layers.{l}.moe.up", "blk.{l}.ffn_up_exps.weight", kTransposed},
                               {"layers.{l}.moe.down", "blk.{l}.ffn_down_exps.weight", kTransposed}});
}

// Biases, and the three of the attention beside one another.
void add_gpt2(std::vector<NameRule>& rules) {
  rules.insert(rules.end(), {{"position_embedding", "position_embd.weight"},
                             {"final_norm_bias", "output_norm.bias"},
                             {"layers.{l}.attn_norm", "blk.{l}.attn_norm.weight"},
                             {"layers.{l}.attn_norm_bias", "blk.{l}.attn_norm.bias"},
                             {"layers.{l}.attn.q", "blk.{l}.attn_qkv.weight", kTransposed},
                             {"layers.{l}.attn.k", "blk.{l}.attn_qkv.weight", kTransposed},
                             {"layers.{l}.attn.v", "blk.{l}.attn_qkv.weight", kTransposed},
                             {"layers.{l}.attn.q_bias", "blk.{l}.attn_qkv.bias"},
                             {"layers.{l}.attn.k_bias", "blk.{l}.attn_qkv.bias"},
                             {"layers.{l}.attn.v_bias", "blk.{l}.attn_qkv.bias"},
                             {"layers.{l}.attn.o", "blk.{l}.attn_output.weight", kTransposed},
                             {"layers.{l}.attn.o_bias", "blk.{l}.attn_output.bias"},
                             {"layers.{l}.mlp_norm", "blk.{l}.ffn_norm.weight"},
                             {"layers.{l}.mlp_norm_bias", "blk.{l}.ffn_norm.bias"},
                             {"layers.{l}.mlp.up", "blk.{l}.ffn_up.weight", kTransposed},
                             {"layers.{l}.mlp.up_bias", "blk.{l}.ffn_up.bias"},
                             {"layers.{l}.mlp.down", "blk.{l}.ffn_down.weight", kTransposed},
                             {"layers.{l}.mlp.down_bias", "blk.{l}.ffn_down.bias"}});
}

}  // namespace

std::string_view gguf_architecture_name(GgufArchitecture architecture) {
  return std::ranges::find(kArchitectures, architecture, &NamedArchitecture::architecture)->name;
}

std::string gguf_architecture_names() {
  std::vector<std::string_view> names;
  for (const NamedArchitecture& known : kArchitectures) names.push_back(known.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

const GgufArchitecture* find_gguf_architecture(std::string_view name) {
  const auto found = std::ranges::find(kArchitectures, name, &NamedArchitecture::name);
  return found == kArchitectures.end() ? nullptr : &found->architecture;
}

GgufArchitecture gguf_architecture_of(const ModelConfig& model) {
  if (model.family == Family::kGpt2) return kGpt2;
  if (model.is_grok()) return kGrok;
  if (!model.qk_norm) return kLlama;
  return model.has_experts() ? kQwen3Moe : kQwen3;
}

std::vector<NameRule> gguf_rules(GgufArchitecture architecture, const std::function<bool(const std::string&)>& has) {
  std::vector<NameRule> rules = {
      {"embedding", "token_embd.weight"}, {"head", "output.weight"}, {"final_norm", "output_norm.weight"}};
  if (architecture == kGpt2) {
    add_gpt2(rules);
    return rules;
  }
  add_attention(rules, architecture == kLlama ? kTransposedPairs : kTransposed);
  add_feed_forward(rules, has("blk.0.ffn_gate.0.weight"));
  if (architecture == kGrok) {
    const bool of_grok_1 = has("blk.0.layer_output_norm.weight");
    rules.insert(rules.end(), {{"layers.{l}.attn_post_norm", "blk.{l}.attn_output_norm.weight"},
                               {"layers.{l}.mlp_post_norm",
                                of_grok_1 ? "blk.{l}.layer_output_norm.weight" : "blk.{l}.post_ffw_norm.weight"}});
  }
  return rules;
}

std::vector<NameRule> gguf_rules(const ModelConfig& model) {
  return gguf_rules(gguf_architecture_of(model), [&](const std::string& name) {
    return model.family == Family::kGrok1 && name == "blk.0.layer_output_norm.weight";
  });
}

}  // namespace colossus
