#include "convert/gguf_config.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "convert/gguf_rope.h"

namespace colossus {
namespace {

using enum GgufArchitecture;

// Keys of one architecture, read one by one; what is wrong and what is left over is known at the end.
class Keys {
 public:
  Keys(const GgufMetadata& metadata, std::string_view architecture)
      : metadata_(metadata), prefix_(fmt::format("{}.", architecture)) {}

  bool has(const std::string& key) const { return metadata_.contains(prefix_ + key); }
  // Without a standard the key must be there.
  int64_t whole(const std::string& key, std::optional<int64_t> standard = {}, int64_t max = int64_t{1} << 24) {
    const GgufValue* value = take(key, standard.has_value());
    if (!value) return standard.value_or(0);
    if (value->array()) {
      refuse(key, "it is a list; layers that differ from one another are not there");
      return 0;
    }
    const auto whole = value->whole();
    if (whole && *whole >= 0 && *whole <= max) return *whole;
    refuse(key, fmt::format("needed a whole number from 0 to {}", max));
    return 0;
  }
  double number(const std::string& key, std::optional<double> standard = {}) {
    const GgufValue* value = take(key, standard.has_value());
    if (!value) return standard.value_or(0);
    const auto number = value->number();
    if (number && std::isfinite(*number)) return *number;
    refuse(key, "needed a finite number");
    return 0;
  }
  bool flag(const std::string& key, bool standard) {
    const GgufValue* value = take(key, true);
    if (!value) return standard;
    if (const auto flag = value->flag()) return *flag;
    refuse(key, "needed a bool");
    return standard;
  }
  std::string text(const std::string& key, const std::string& standard) {
    const GgufValue* value = take(key, true);
    if (!value) return standard;
    if (value->text()) return *value->text();
    refuse(key, "needed text");
    return standard;
  }
  void want_flag(const std::string& key, bool wanted, const std::string& why) {
    if (flag(key, wanted) != wanted) refuse(key, why);
  }
  void ignore(std::initializer_list<const char*> keys) {
    for (const char* key : keys) seen_.insert(prefix_ + key);
  }
  void refuse(const std::string& key, const std::string& why) {
    if (status_.ok()) status_ = invalid(fmt::format("{}{}: {}", prefix_, key, why));
  }
  const Status& status() const { return status_; }
  std::vector<std::string> unread() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : metadata_)
      if (key.starts_with(prefix_) && !seen_.contains(key)) keys.push_back(key);
    return keys;
  }

 private:
  const GgufValue* take(const std::string& key, bool optional) {
    seen_.insert(prefix_ + key);
    const auto found = metadata_.find(prefix_ + key);
    if (found != metadata_.end()) return &found->second;
    if (!optional) refuse(key, "it is not there, and the network cannot be told without it");
    return nullptr;
  }

  const GgufMetadata& metadata_;
  const std::string prefix_;
  std::set<std::string> seen_;
  Status status_;  // the first fault
};

void read_sizes(Keys& keys, ModelConfig& m) {
  m.num_layers = keys.whole("block_count");
  m.context = keys.whole("context_length");
  m.width = keys.whole("embedding_length");
  m.num_heads = keys.whole("attention.head_count");
  m.num_kv_heads = keys.whole("attention.head_count_kv", m.num_heads);
  if (m.num_heads < 1) return keys.refuse("attention.head_count", "needed at least 1");
  const bool divides = m.width % m.num_heads == 0;
  if (!divides && !keys.has("attention.key_length"))
    return keys.refuse("attention.head_count",
                       fmt::format("{} does not divide embedding_length = {}", m.num_heads, m.width));
  m.head_dim = keys.whole("attention.key_length", m.width / m.num_heads);
  if (keys.whole("attention.value_length", m.head_dim) != m.head_dim)
    keys.refuse("attention.value_length", fmt::format("needed key_length = {}", m.head_dim));
  keys.want_flag("attention.causal", true, "attention to what comes later is not there");
  keys.ignore({"vocab_size", "attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon", "tensor_data_layout"});
}

void read_rotary(Keys& keys, GgufModel& model, const std::vector<float>& rope_freqs) {
  ModelConfig& m = model.config;
  m.rope_theta = keys.number("rope.freq_base", 10000);
  if (keys.whole("rope.dimension_count", m.head_dim) != m.head_dim)
    keys.refuse("rope.dimension_count", fmt::format("needed {}: part of a head's rotation is not there", m.head_dim));
  const std::string scaling = keys.text("rope.scaling.type", "none");
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  if (model.architecture == kGrok && scaling == "yarn") {
    // Grok-2's configuration calls it "original", and nobody who runs the weights scales.
    model.notes.emplace_back("grok.rope.scaling is passed over: Grok-2 turns without scaling");
    keys.ignore({"rope.scaling.original_context_length", "rope.scaling.yarn_ext_factor",
                 "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"});
  } else if (scaling != "none" && (scaling != "linear" || factor != 1)) {
    keys.refuse("rope.scaling.type",
                fmt::format("the rotary embedding's scaling \"{}\" is not there; only Llama 3.1's is", scaling));
  } else if (factor != 1 && factor != 0) {
    keys.refuse("rope.scaling.factor", "linear scaling of the rotary embedding is not there");
  }
  keys.ignore({"rope.scaling.original_context_length", "rope.scaling.finetuned"});
  if (!keys.status().ok() || rope_freqs.empty()) return;
  if (model.architecture != kLlama) {
    keys.refuse("rope.freq_base", "rope_freqs.weight is only known in files of the architecture llama");
  } else if (const Status taken = take_rope_freqs(rope_freqs, m); !taken.ok()) {
    keys.refuse("rope.freq_base", taken.message());
  }
}

void read_experts(Keys& keys, ModelConfig& m) {
  m.num_experts = keys.whole("expert_count", 0);
  if (m.num_experts == 0) {
    keys.ignore({"expert_used_count"});
    return;
  }
  m.num_experts_per_token = keys.whole("expert_used_count");
  if (keys.whole("expert_gating_func", 1) != 1)
    keys.refuse("expert_gating_func", "experts that are not chosen by a softmax are not there");
  if (keys.number("expert_weights_scale", 1) != 1 && keys.number("expert_weights_scale", 1) != 0)
    keys.refuse("expert_weights_scale", "needed 1");
  if (keys.whole("expert_shared_count", 0) != 0 || keys.whole("expert_shared_feed_forward_length", 0) != 0)
    keys.refuse("expert_shared_count", "experts that see every token are not there");
  if (keys.whole("expert_group_count", 0) > 1) keys.refuse("expert_group_count", "groups of experts are not there");
  if (keys.whole("leading_dense_block_count", 0) != 0)
    keys.refuse("leading_dense_block_count", "layers without experts are not there");
  keys.ignore({"expert_group_used_count"});
}

void read_llama_like(Keys& keys, GgufModel& model) {
  ModelConfig& m = model.config;
  m.family = Family::kLlama;
  m.activation = ActivationKind::kSilu;
  m.norm_eps = keys.number("attention.layer_norm_rms_epsilon");
  m.qk_norm = model.architecture != kLlama;
  m.window = keys.whole("attention.sliding_window", 0);
  read_experts(keys, m);
  for (const char* key : {"embedding_scale", "residual_scale", "logit_scale"})
    if (keys.number(key, 1) != 1) keys.refuse(key, "needed 1: scales are not part of this family here");
  if (const double scale = keys.number("attention.scale", 0); scale != 0) keys.refuse("attention.scale", "needed none");
  if (m.num_experts == 0) {
    if (model.architecture == kQwen3Moe) keys.refuse("expert_count", "needed at least 1");
    m.ffn_width = keys.whole("feed_forward_length");
    return;
  }
  if (model.architecture == kQwen3) keys.refuse("expert_count", "this architecture has none; qwen3moe has");
  m.ffn_width = 0;
  m.expert_width = keys.has("expert_feed_forward_length") ? keys.whole("expert_feed_forward_length")
                                                          : keys.whole("feed_forward_length");
  keys.ignore({"feed_forward_length"});
  // llama.cpp does it whatever the key says; it is ours.
  m.renormalize_gates = keys.flag("expert_weights_norm", true);
}

void read_gpt2(Keys& keys, ModelConfig& m) {
  m.family = Family::kGpt2;
  m.activation = ActivationKind::kGeluTanh;
  m.norm_eps = keys.number("attention.layer_norm_epsilon");
  m.ffn_width = keys.whole("feed_forward_length");
  m.biases = true;
  m.num_experts = 0;
  if (m.head_dim * m.num_heads != m.width || m.num_kv_heads != m.num_heads)
    keys.refuse("attention.head_count", "heads must fill embedding_length, each with keys of its own");
}

// Numbers that old files of Grok-1 do not have are its own.
void read_grok(Keys& keys, const std::map<std::string, Shape>& shapes, GgufModel& model) {
  ModelConfig& m = model.config;
  read_experts(keys, m);
  if (m.num_experts == 0) keys.refuse("expert_count", "needed at least 1");
  const bool dense = shapes.contains("blk.0.ffn_up.weight");
  m.family = dense || keys.has("final_logit_softcapping") || keys.has("attention.temperature_length") ? Family::kGrok2
                                                                                                      : Family::kGrok1;
  m.activation = ActivationKind::kGeluTanh;
  m.norm_eps = keys.number("attention.layer_norm_rms_epsilon");
  const int64_t width = keys.whole("feed_forward_length");
  m.ffn_width = dense ? width : 0;
  m.expert_width = keys.whole("expert_feed_forward_length", width);
  m.embedding_scale = keys.number("embedding_scale", 78.38367176906169);
  m.logit_scale = keys.number("logit_scale", 0.5773502691896257);
  m.attn_softcap = keys.number("attn_logit_softcapping", 30);
  m.renormalize_gates = false;  // llama.cpp does; the released models do not
  const double head_scale = 1 / std::sqrt(static_cast<double>(m.head_dim));
  if (std::abs(keys.number("attention.output_scale", head_scale) / head_scale - 1) > 1e-6)
    keys.refuse("attention.output_scale", fmt::format("needed 1 / sqrt({}), the size of a head", m.head_dim));
  const double router_softcap = keys.number("router_logit_softcapping", 0);
  if (m.family == Family::kGrok1) {
    if (router_softcap != 0)
      model.notes.emplace_back("grok.router_logit_softcapping is passed over: Grok-1 has no cap there");
    return;
  }
  m.router_softcap = router_softcap;
  m.logit_softcap = keys.number("final_logit_softcapping", 0);
  m.attn_temperature_len = keys.whole("attention.temperature_length", 0);
}

GgufMetadata common_keys(const ModelConfig& m) {
  return {{"block_count", gguf_u32(m.num_layers)},
          {"context_length", gguf_u32(m.context)},
          {"embedding_length", gguf_u32(m.width)},
          {"feed_forward_length", gguf_u32(m.ffn_width > 0 ? m.ffn_width : m.expert_width)},
          {"attention.head_count", gguf_u32(m.num_heads)},
          {"attention.head_count_kv", gguf_u32(m.num_kv_heads)},
          {"vocab_size", gguf_u32(m.vocab_size)}};
}

void add_rotary_keys(const ModelConfig& m, GgufMetadata& keys) {
  keys["attention.key_length"] = keys["attention.value_length"] = gguf_u32(m.head_dim);
  keys["attention.layer_norm_rms_epsilon"] = gguf_f32(m.norm_eps);
  keys["rope.dimension_count"] = gguf_u32(m.head_dim);
  keys["rope.freq_base"] = gguf_f32(m.rope_theta);
}

void add_expert_keys(const ModelConfig& m, GgufMetadata& keys) {
  if (!m.has_experts()) return;
  keys["expert_count"] = gguf_u32(m.num_experts);
  keys["expert_used_count"] = gguf_u32(m.num_experts_per_token);
  keys["expert_feed_forward_length"] = gguf_u32(m.expert_width);
}

void add_grok_keys(const ModelConfig& m, GgufMetadata& keys) {
  keys["embedding_scale"] = gguf_f32(m.embedding_scale);
  keys["logit_scale"] = gguf_f32(m.logit_scale);
  keys["attn_logit_softcapping"] = gguf_f32(m.attn_softcap);
  keys["attention.output_scale"] = gguf_f32(1 / std::sqrt(static_cast<double>(m.head_dim)));
  if (m.family == Family::kGrok1) return;
  keys["router_logit_softcapping"] = gguf_f32(m.router_softcap);
  keys["final_logit_softcapping"] = gguf_f32(m.logit_softcap);
  if (m.attn_temperature_len > 0) keys["attention.temperature_length"] = gguf_u32(m.attn_temperature_len);
}

}  // namespace

GgufValue gguf_u32(int64_t value) { return {GgufValueType::kU32, value}; }
GgufValue gguf_f32(double value) { return {GgufValueType::kF32, static_cast<double>(static_cast<float>(value))}; }
GgufValue gguf_bool(bool value) { return {GgufValueType::kBool, value}; }
GgufValue gguf_text(std::string value) { return {GgufValueType::kText, std::move(value)}; }

Result<GgufModel> read_gguf_config(const GgufMetadata& metadata, const std::map<std::string, Shape>& shapes,
                                   const std::vector<float>& rope_freqs) {
  const auto named = metadata.find("general.architecture");
  if (named == metadata.end() || !named->second.text())
    return invalid("general.architecture is not there; the file says of no network");
  const GgufArchitecture* known = find_gguf_architecture(*named->second.text());
  if (!known)
    return invalid(fmt::format("general.architecture is \"{}\": not one that is known here: {}",
                               named->second.text()->substr(0, 64), gguf_architecture_names()));
  const auto embedding = shapes.find("token_embd.weight");
  if (embedding == shapes.end() || embedding->second.rank() != 2)
    return invalid("token_embd.weight is not there as a matrix; the size of the vocabulary is not known");
  GgufModel model{.architecture = *known, .config = {}, .notes = {}};
  ModelConfig& m = model.config;
  m.vocab_size = embedding->second[0];
  m.tie_embeddings = !shapes.contains("output.weight");
  Keys keys(metadata, *named->second.text());
  read_sizes(keys, m);
  RETURN_IF_ERROR(keys.status());
  if (model.architecture != kGpt2) read_rotary(keys, model, rope_freqs);
  switch (model.architecture) {
    case kGpt2: read_gpt2(keys, m); break;
    case kGrok: read_grok(keys, shapes, model); break;
    default: read_llama_like(keys, model);
  }
  RETURN_IF_ERROR(keys.status());
  for (const std::string& key : keys.unread())
    model.notes.push_back(fmt::format("{} is not known here, and was taken to mean nothing for the network", key));
  return model;
}

GgufMetadata gguf_config(const ModelConfig& m) {
  const GgufArchitecture architecture = gguf_architecture_of(m);
  GgufMetadata keys = common_keys(m);
  if (architecture == kGpt2) {
    keys["attention.layer_norm_epsilon"] = gguf_f32(m.norm_eps);
  } else {
    add_rotary_keys(m, keys);
    add_expert_keys(m, keys);
  }
  if (architecture == kGrok) add_grok_keys(m, keys);
  if (m.window > 0) keys["attention.sliding_window"] = gguf_u32(m.window);
  if (m.has_experts() && !m.is_grok()) keys["expert_weights_norm"] = gguf_bool(m.renormalize_gates);
  GgufMetadata named;
  for (auto& [key, value] : keys)
    named[fmt::format("{}.{}", gguf_architecture_name(architecture), key)] = std::move(value);
  named["general.architecture"] = gguf_text(std::string(gguf_architecture_name(architecture)));
  return named;
}

std::vector<std::string> gguf_differences(const ModelConfig& m) {
  std::vector<std::string> differences;
  if (m.window > 0)
    differences.push_back(
        fmt::format("llama.cpp has no window in this architecture: its tokens see more than {} others", m.window));
  // A common factor of the experts' sum is taken out by the norm behind it, so that Grok-1 stays what it is.
  if (m.has_experts() && !m.renormalize_gates && !(m.is_grok() && m.ffn_width == 0))
    differences.emplace_back("llama.cpp makes the chosen experts' gates sum to 1, which this network does not");
  if (m.router_softcap > 0) differences.emplace_back("llama.cpp does not cap the router's logits");
  if (m.attn_temperature_len > 0)
    differences.push_back(fmt::format("llama.cpp does not sharpen attention behind {} tokens", m.attn_temperature_len));
  return differences;
}

}  // namespace colossus
