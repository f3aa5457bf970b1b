// rope_freqs.weight: for each pair of a head, how many times slower the rotary embedding turns it. GGUF files have this
// table where our configuration has the four numbers that it comes from.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "model/model_config.h"

namespace colossus {

// (D / 2); empty where every pair turns as ever.
std::vector<float> rope_freqs_of(const ModelConfig& model);

// Sets rope_factor and its companions so that the network turns as the table says; refuses tables that no such numbers
// give. Several may: those that were published are taken first. Needs head_dim and rope_theta.
Status take_rope_freqs(std::span<const float> table, ModelConfig& model);

}  // namespace colossus
