// config.json of Hugging Face directories: what it says of the network, and what it says of ours.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "convert/family.h"
#include "io/checked_json.h"
#include "model/model_config.h"

namespace colossus {

struct HfModel {
  const ModelFamily* family = nullptr;
  ModelConfig config;
  std::vector<std::string> notes;  // keys that were not understood, and taken to mean nothing
};

// Refuses what our network cannot express, with the key that asks for it. `place` is for messages.
Result<HfModel> read_hf_config(const Json& config, const std::string& place);

// The same the other way: read_hf_config of it gives the model again, where the family has all its parts. `dtype` as
// torch spells it: "bfloat16".
Json write_hf_config(const ModelConfig& model, const ModelFamily& family, const std::string& dtype);

}  // namespace colossus
