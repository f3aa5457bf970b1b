// The byte alphabet of GPT-2: one printable character per byte, so that tokens of any bytes can stand in JSON.
// Bytes ! to ~, 0xA1 to 0xAC and 0xAE to 0xFF stand for themselves (as Latin-1); the others follow from U+0100 in
// order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace colossus {

// The 256 bytes in the order of their characters: the order of ids in a vocabulary.
const std::array<uint8_t, 256>& byte_alphabet_order();

void append_byte_alphabet(std::string& out, std::string_view bytes);
// The bytes that `text` spells; nothing if a character of it is not in the alphabet.
std::optional<std::string> bytes_of_alphabet(std::string_view text);

}  // namespace colossus
