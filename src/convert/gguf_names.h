// How GGUF files of llama.cpp call tensors and lay them out, for each architecture.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "convert/name_map.h"
#include "model/model_config.h"

namespace colossus {

// general.architecture, as files spell it.
enum class GgufArchitecture { kLlama, kGpt2, kQwen3, kQwen3Moe, kGrok };
std::string_view gguf_architecture_name(GgufArchitecture architecture);
std::string gguf_architecture_names();                                  // all, for messages
const GgufArchitecture* find_gguf_architecture(std::string_view name);  // null: not known
GgufArchitecture gguf_architecture_of(const ModelConfig& model);

inline constexpr std::string_view kRopeFreqs = "rope_freqs.weight";

// Names that have changed over time go by what a file has: `has(name)`. Where nothing is there, the newest.
std::vector<NameRule> gguf_rules(GgufArchitecture architecture, const std::function<bool(const std::string&)>& has);
// Those that an export writes.
std::vector<NameRule> gguf_rules(const ModelConfig& model);

}  // namespace colossus
