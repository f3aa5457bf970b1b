// Base64 with padding, alphabet "+/" (RFC 4648, section 4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace colossus {

std::string encode_base64(std::string_view bytes);
// Nothing but what encode_base64 writes: no line ends, no missing padding, no set bits behind the last byte.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace colossus
