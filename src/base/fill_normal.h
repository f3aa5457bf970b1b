// Many normal numbers at once, for initial weights.
#pragma once

#include <span>

#include "base/rng.h"

namespace colossus {

// scale * random_normal(key, first + i) for each i; four numbers share a block of bits.
void fill_normal(const RngKey& key, uint64_t first, float scale, std::span<float> into);

}  // namespace colossus
