// JSON of strangers: small, flat enough, and without a key that stands twice in one object (libraries keep either).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

inline constexpr int kMaxJsonDepth = 128;

// `place` is for messages.
Result<nlohmann::json> parse_checked_json(std::string_view text, const std::string& place);
Result<nlohmann::json> read_checked_json(FileSystem& files, const std::string& path, int64_t max_bytes = 256 << 20);

}  // namespace colossus
