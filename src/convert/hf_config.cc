#include "convert/hf_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "convert/hf_rope.h"
#include "convert/key_reader.h"

namespace colossus {
namespace {

// Of files, of training, of sampling, of other programs: nothing that logits depend on.
void ignore_common(KeyReader& keys) {
  keys.ignore({"architectures",
               "model_type",
               "dtype",
               "torch_dtype",
               "transformers_version",
               "use_cache",
               "initializer_range",
               "bos_token_id",
               "eos_token_id",
               "pad_token_id",
               "sep_token_id",
               "_name_or_path",
               "auto_map",
               "attention_dropout",
               "output_attentions",
               "output_hidden_states",
               "return_dict",
               "output_router_logits",
               "router_aux_loss_coef",
               "router_jitter_noise",
               "pretraining_tp",
               "task_specific_params",
               "unsloth_version",
               "id2label",
               "label2id",
               "chunk_size_feed_forward",
               "is_encoder_decoder",
               "problem_type",
               "max_window_layers",
               "attn_implementation",
               "_attn_implementation_autoset",
               "rope_theta",
               "rope_scaling",
               "rope_parameters",
               "hidden_dropout_prob",
               "num_labels"});
}

ActivationKind read_activation(KeyReader& keys, const std::string& key, const std::string& standard,
                               bool grok = false) {
  const std::string name = keys.text(key, standard);
  if (name == "silu" || name == "swish") return ActivationKind::kSilu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return ActivationKind::kGeluTanh;
  if (name == "gelu" && grok) return ActivationKind::kGeluTanh;  // as those who run the published weights read it
  if (name == "relu2" || name == "relu_squared") return ActivationKind::kRelu2;
  keys.refuse(key, "only silu, gelu_new (by tanh) and relu2 are there; the exact gelu is not");
  return ActivationKind::kSilu;
}

void read_heads(KeyReader& keys, ModelConfig& m, std::optional<int64_t> head_dim = {}) {
  m.width = keys.whole("hidden_size");
  m.num_layers = keys.whole("num_hidden_layers");
  m.num_heads = keys.whole("num_attention_heads");
  m.num_kv_heads = keys.whole("num_key_value_heads", m.num_heads);
  m.vocab_size = keys.whole("vocab_size");
  m.context = keys.whole("max_position_embeddings");
  if (m.num_heads == 0) return keys.refuse("num_attention_heads", "needed at least 1");
  if (!head_dim && !keys.has("head_dim") && m.width % m.num_heads != 0)
    return keys.refuse("num_attention_heads", fmt::format("does not divide hidden_size = {}; give head_dim", m.width));
  m.head_dim = keys.whole("head_dim", head_dim.value_or(m.width / m.num_heads));
}

// One window for all layers, or none.
void read_layer_types(KeyReader& keys, const ModelConfig& m) {
  const Json& types = keys.take("layer_types");
  if (types.is_null()) return;
  const std::string wanted = m.window > 0 ? "sliding_attention" : "full_attention";
  if (!types.is_array() || std::ranges::any_of(types, [&](const Json& type) { return type != wanted; }))
    keys.refuse("layer_types",
                fmt::format("every layer must be \"{}\"; windows of some layers only are not there", wanted));
}

// Those that came out of Llama; `experts` and the rest by name.
void read_llama_like(KeyReader& keys, const std::string& name, ModelConfig& m) {
  const bool qwen = name.starts_with("qwen3"), moe = name == "mixtral" || name == "qwen3_moe";
  m.family = Family::kLlama;
  read_heads(keys, m, name == "qwen3" ? std::optional<int64_t>(128) : std::nullopt);
  m.activation = read_activation(keys, "hidden_act", "silu");
  m.norm_eps = keys.number("rms_norm_eps", name == "mixtral" ? 1e-5 : 1e-6);
  m.tie_embeddings = keys.flag("tie_word_embeddings", false);
  m.qk_norm = qwen;
  keys.want_flag("attention_bias", false, false, "biases of the attention's projections are not there");
  keys.want_flag("mlp_bias", false, false, "biases of the feed-forward block are not there");
  if (qwen) {
    keys.want_flag("use_sliding_window", false, false, "windows of some layers only are not there");
    keys.ignore({"sliding_window"});
  } else if (name != "llama") {
    // Where it does not stand, Mistral's is the library's standard; null is none.
    m.window = keys.whole("sliding_window", name == "mistral" && !keys.contains("sliding_window") ? 4096 : 0);
  }
  read_layer_types(keys, m);
  m.num_experts = 0;
  if (!moe) {
    m.ffn_width = keys.whole("intermediate_size");
  } else if (name == "mixtral") {
    m.num_experts = keys.whole(keys.has("num_local_experts") ? "num_local_experts" : "num_experts");
    m.expert_width = keys.whole("intermediate_size");
    m.num_experts_per_token = keys.whole("num_experts_per_tok", 2);
    m.renormalize_gates = true;
  } else {
    m.num_experts = keys.whole(keys.has("num_local_experts") ? "num_local_experts" : "num_experts");
    m.expert_width = keys.whole("moe_intermediate_size");
    m.num_experts_per_token = keys.whole("num_experts_per_tok", 8);
    m.renormalize_gates = keys.flag("norm_topk_prob", false);
    keys.ignore({"intermediate_size"});
    if (keys.whole("decoder_sparse_step", 1) != 1)
      keys.refuse("decoder_sparse_step", "layers without experts are not there");
    if (const Json& dense = keys.take("mlp_only_layers"); !dense.is_null() && !dense.empty())
      keys.refuse("mlp_only_layers", "layers without experts are not there");
  }
}

void read_gpt2(KeyReader& keys, ModelConfig& m) {
  m.family = Family::kGpt2;
  m.width = keys.whole("n_embd");
  m.num_layers = keys.whole("n_layer");
  m.num_heads = m.num_kv_heads = keys.whole("n_head");
  m.vocab_size = keys.whole("vocab_size");
  m.context = keys.whole("n_positions");
  m.ffn_width = keys.whole("n_inner", 4 * m.width);
  m.norm_eps = keys.number("layer_norm_epsilon", 1e-5);
  m.activation = read_activation(keys, "activation_function", "gelu_new");
  m.tie_embeddings = keys.flag("tie_word_embeddings", true);
  m.biases = true;
  m.num_experts = 0;
  if (m.num_heads == 0 || m.width % m.num_heads != 0)
    return keys.refuse("n_head", fmt::format("needed a divisor of n_embd = {}", m.width));
  m.head_dim = m.width / m.num_heads;
  keys.want_flag("scale_attn_weights", true, true, "attention without a scale is not there");
  keys.want_flag("scale_attn_by_inverse_layer_idx", false, false, "scales by layer are not there");
  keys.want_flag("add_cross_attention", false, false, "attention to an encoder is not there");
  keys.ignore({"n_ctx", "reorder_and_upcast_attn", "attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_activation",
               "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
               "gradient_checkpointing"});
}

void read_grok(KeyReader& keys, ModelConfig& m, bool second) {
  m.family = second ? Family::kGrok2 : Family::kGrok1;
  read_heads(keys, m);
  m.activation = read_activation(keys, "hidden_act", "gelu", true);
  if (m.activation != ActivationKind::kGeluTanh) keys.refuse("hidden_act", "Grok's is the gelu by tanh");
  m.norm_eps = keys.number("rms_norm_eps", 1e-5);
  m.num_experts = keys.whole(keys.has("num_local_experts") ? "num_local_experts" : "num_experts", 8);
  keys.ignore({"num_local_experts", "num_experts"});
  m.num_experts_per_token = keys.whole("num_experts_per_tok", 2);
  m.embedding_scale = keys.number("embedding_multiplier_scale");
  m.logit_scale = keys.number("output_multiplier_scale");
  const double scale = keys.number("attn_output_multiplier", 1 / std::sqrt(static_cast<double>(m.head_dim)));
  if (std::abs(scale * std::sqrt(static_cast<double>(m.head_dim)) - 1) > 1e-6)
    keys.refuse("attn_output_multiplier", fmt::format("needed 1 / sqrt(head_dim = {})", m.head_dim));
  if (!second) {
    m.expert_width = keys.whole("intermediate_size");
    m.tie_embeddings = keys.flag("tie_word_embeddings", true);
    m.attn_softcap = keys.number("max_attn_value", 30);
    return;
  }
  m.tie_embeddings = keys.flag("tie_word_embeddings", false);
  m.expert_width = keys.whole("moe_intermediate_size");
  if (keys.flag("residual_moe", false))
    m.ffn_width = keys.whole("intermediate_size");
  else
    keys.ignore({"intermediate_size"});
  m.attn_softcap = keys.number("attn_logit_softcapping", 30);
  m.router_softcap = keys.number("router_logit_softcapping", 30);
  m.logit_softcap = keys.number("final_logit_softcapping", 50);
  m.attn_temperature_len = keys.whole("attn_temperature_len", 0);
  if (const Json& window = keys.take("sliding_window_size"); !window.is_null() && window != -1)
    keys.refuse("sliding_window_size", "needed -1; windows are not part of this family here");
  if (keys.whole("global_attn_every_n", 1) != 1) keys.refuse("global_attn_every_n", "needed 1");
}

// By architecture first: Grok-2 is published with the model_type "git", others say "mixtral" for Grok-1.
Result<const ModelFamily*> recognize(const Json& config, const std::string& place) {
  std::string architecture;
  if (const auto found = config.find("architectures");
      found != config.end() && found->is_array() && !found->empty() && found->front().is_string())
    architecture = found->front().get<std::string>();
  const std::string type =
      config.contains("model_type") && config["model_type"].is_string() ? config["model_type"].get<std::string>() : "";
  if (architecture.starts_with("Grok1") || type.starts_with("grok"))
    return find_family(
        config.contains("moe_intermediate_size") || config.contains("router_logit_softcapping") ? "grok-2" : "grok-1");
  std::vector<std::string_view> known;
  for (const ModelFamily& family : hf_families()) {
    known.push_back(family.name);
    if (type == family.model_type || architecture == family.architecture) return &family;
  }
  return invalid(fmt::format("[{}] model_type = \"{}\": not a family that is known here: {}", place, type,
                             fmt::join(known, ", ")));
}

Json rope_json(const ModelConfig& m) {
  Json rope = {{"rope_type", m.rope_factor == 1 ? "default" : "llama3"}, {"rope_theta", m.rope_theta}};
  if (m.rope_factor == 1) return rope;
  rope["factor"] = m.rope_factor;
  rope["low_freq_factor"] = m.rope_low_turns;
  rope["high_freq_factor"] = m.rope_high_turns;
  rope["original_max_position_embeddings"] = m.rope_original_context;
  return rope;
}

Json common_json(const ModelConfig& m) {
  Json json = {{"hidden_size", m.width},
               {"num_hidden_layers", m.num_layers},
               {"num_attention_heads", m.num_heads},
               {"num_key_value_heads", m.num_kv_heads},
               {"head_dim", m.head_dim},
               {"vocab_size", m.vocab_size},
               {"max_position_embeddings", m.context},
               {"rms_norm_eps", m.norm_eps},
               {"tie_word_embeddings", m.tie_embeddings}};
  // Older programs read the base beside the rest, newer ones in one object.
  json["rope_theta"] = m.rope_theta;
  json["rope_parameters"] = rope_json(m);
  if (m.rope_factor != 1) {
    Json scaling = rope_json(m);
    scaling.erase("rope_theta");
    json["rope_scaling"] = scaling;
  }
  return json;
}

std::string hf_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSilu: return "silu";
    case ActivationKind::kGeluTanh: return "gelu_new";
    case ActivationKind::kRelu2: return "relu2";
    case ActivationKind::kNone: break;
  }
  return "";
}

void write_llama_like(const ModelConfig& m, const ModelFamily& family, Json& json) {
  json.update(common_json(m));
  json["hidden_act"] = hf_activation(m.activation);
  json["attention_bias"] = false;
  if (family.name == "llama") json["mlp_bias"] = false;
  if (family.name == "mistral" || family.name == "mixtral")
    json["sliding_window"] = m.window > 0 ? Json(m.window) : Json(nullptr);
  if (!m.has_experts()) {
    json["intermediate_size"] = m.ffn_width;
    return;
  }
  json["num_experts_per_tok"] = m.num_experts_per_token;
  if (family.name == "mixtral") {
    json["num_local_experts"] = m.num_experts;
    json["intermediate_size"] = m.expert_width;
    return;
  }
  json["num_experts"] = m.num_experts;
  json["moe_intermediate_size"] = m.expert_width;
  json["intermediate_size"] = m.expert_width;
  json["norm_topk_prob"] = m.renormalize_gates;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
}

void write_gpt2(const ModelConfig& m, Json& json) {
  json.update({{"n_embd", m.width},
               {"n_layer", m.num_layers},
               {"n_head", m.num_heads},
               {"n_positions", m.context},
               {"n_inner", m.ffn_width},
               {"vocab_size", m.vocab_size},
               {"layer_norm_epsilon", m.norm_eps},
               {"activation_function", hf_activation(m.activation)},
               {"tie_word_embeddings", m.tie_embeddings}});
}

void write_grok(const ModelConfig& m, Json& json) {
  json.update(common_json(m));
  json.erase("rope_parameters");
  json["hidden_act"] = "gelu";
  json["num_local_experts"] = m.num_experts;
  json["num_experts"] = m.num_experts;
  json["num_experts_per_tok"] = m.num_experts_per_token;
  json["embedding_multiplier_scale"] = m.embedding_scale;
  json["output_multiplier_scale"] = m.logit_scale;
  json["attn_output_multiplier"] = 1 / std::sqrt(static_cast<double>(m.head_dim));
  if (m.family == Family::kGrok1) {
    json["intermediate_size"] = m.expert_width;
    json["max_attn_value"] = m.attn_softcap;
    return;
  }
  json["moe_intermediate_size"] = m.expert_width;
  json["residual_moe"] = m.ffn_width > 0;
  json["intermediate_size"] = m.ffn_width;
  json["attn_logit_softcapping"] = m.attn_softcap;
  json["router_logit_softcapping"] = m.router_softcap;
  json["final_logit_softcapping"] = m.logit_softcap;
  json["attn_temperature_len"] = m.attn_temperature_len;
  json["sliding_window_size"] = -1;
  json["global_attn_every_n"] = 1;
}

}  // namespace

Result<HfModel> read_hf_config(const Json& config, const std::string& place) {
  if (!config.is_object()) return invalid(fmt::format("[{}] is no JSON object; needed a model's config.json", place));
  HfModel model;
  ASSIGN_OR_RETURN(model.family, recognize(config, place));
  KeyReader keys(config, place);
  if (keys.has("quantization_config"))
    keys.refuse("quantization_config", "quantized weights are not read; give the model as it was before");
  ModelConfig& m = model.config;
  const std::string name(model.family->name);
  if (name == "gpt2")
    read_gpt2(keys, m);
  else if (name.starts_with("grok"))
    read_grok(keys, m, name == "grok-2");
  else
    read_llama_like(keys, name, m);
  if (name != "gpt2") read_hf_rope(config, keys, name, m);
  ignore_common(keys);
  RETURN_IF_ERROR(keys.status());
  for (const std::string& key : keys.unread())
    model.notes.push_back(
        fmt::format("{}: {} is not known here, and was taken to mean nothing for the network", place, key));
  return model;
}

Json write_hf_config(const ModelConfig& m, const ModelFamily& family, const std::string& dtype) {
  Json json = {{"model_type", family.model_type},
               {"architectures", Json::array({family.architecture})},
               {"torch_dtype", dtype},
               {"dtype", dtype}};
  if (family.name == "gpt2")
    write_gpt2(m, json);
  else if (family.name.starts_with("grok"))
    write_grok(m, json);
  else
    write_llama_like(m, family, json);
  return json;
}

}  // namespace colossus
