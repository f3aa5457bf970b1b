#include "convert/hf_rope.h"

#include <fmt/format.h>

namespace colossus {
namespace {

double standard_theta(const std::string& family) {
  return family == "mixtral" ? 1e6 : 10000;  // of the library's configuration classes
}

// rope_scaling, or rope_parameters with a type.
void read_scaling(const Json& scaling, const std::string& key, KeyReader& keys, ModelConfig& m) {
  if (!scaling.is_object()) return keys.refuse(key, "needed an object");
  KeyReader inner(scaling, key);
  const std::string type = inner.text(scaling.contains("rope_type") ? "rope_type" : "type", "default");
  if (type == "default") return;
  if (type != "llama3")
    return keys.refuse(key, fmt::format("the rotary embedding's scaling \"{}\" is not there; only llama3 is", type));
  m.rope_factor = inner.number("factor");
  m.rope_low_turns = inner.number("low_freq_factor");
  m.rope_high_turns = inner.number("high_freq_factor");
  m.rope_original_context = inner.whole("original_max_position_embeddings");
  if (!inner.status().ok()) keys.refuse(key, inner.status().message());
}

}  // namespace

void read_hf_rope(const Json& config, KeyReader& keys, const std::string& family, ModelConfig& m) {
  m.rope_theta = keys.number("rope_theta", standard_theta(family));
  if (keys.has("rope_parameters")) {
    const Json& rope = config.at("rope_parameters");
    read_scaling(rope, "rope_parameters", keys, m);
    if (rope.is_object()) {
      KeyReader inner(rope, "rope_parameters");
      m.rope_theta = inner.number("rope_theta", m.rope_theta);
      if (inner.number("partial_rotary_factor", 1) != 1)
        keys.refuse("rope_parameters", "partial_rotary_factor: part of a head's rotation is not there");
      if (!inner.status().ok()) keys.refuse("rope_parameters", inner.status().message());
    }
  } else if (keys.has("rope_scaling")) {
    read_scaling(config.at("rope_scaling"), "rope_scaling", keys, m);
  }
  if (keys.number("partial_rotary_factor", 1) != 1)
    keys.refuse("partial_rotary_factor", "part of a head's rotation is not there");
}

}  // namespace colossus
