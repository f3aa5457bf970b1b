// How small `xz -9` makes a text: the yardstick beside a model's bits per byte.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace colossus {

// Bytes of the .xz file. Takes about ten times the text in memory, at most 700 MB.
Result<int64_t> xz9_bytes(std::string_view text);

}  // namespace colossus
