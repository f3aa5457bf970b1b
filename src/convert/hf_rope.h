// What config.json says of the rotary embedding: rope_theta and rope_scaling, or both in rope_parameters.
#pragma once

#include <string>

#include "convert/key_reader.h"
#include "model/model_config.h"

namespace colossus {

void read_hf_rope(const Json& config, KeyReader& keys, const std::string& family, ModelConfig& model);

}  // namespace colossus
