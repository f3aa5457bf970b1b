// The families of models that others publish: how their tensors are called, and what of them a table cannot say.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "convert/name_map.h"

namespace colossus {

struct ModelFamily {
  std::string_view name;        // "mixtral": as --family and docs/import.md spell it
  std::string_view model_type;  // config.json's
  std::string_view architecture;
  std::vector<NameRule> rules;
  // Ends of names of tensors that hold nothing: tables that are computed, masks.
  std::vector<std::string_view> no_parameters = {};
  // A beginning of all names but the head's that files of the bare model leave out.
  std::string_view base = {};
};

// Of Hugging Face directories.
std::span<const ModelFamily> hf_families();
const ModelFamily* find_family(std::string_view name);   // null: not known
const ModelFamily& family_of(const ModelConfig& model);  // the one to export it as

// xAI's own names (Grok-1's release, written out as safetensors).
const ModelFamily& grok1_release();
// llama2.c's .bin files, by the names of the struct they are read into.
std::span<const NameRule> llama2c_rules();

}  // namespace colossus
