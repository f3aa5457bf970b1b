// UTF-8 as bytes that may be wrong: decoding one character, and giving out a stream only in whole characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace colossus {

inline constexpr uint32_t kInvalidCodePoint = 0xFFFFFFFF;
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

struct Utf8Char {
  uint32_t code_point = kInvalidCodePoint;
  uint32_t num_bytes = 1;  // an invalid byte counts as one character of one byte
};

// The character at `text[0]`. Needs a non-empty text. Refuses overlong forms, surrogates and values above U+10FFFF
// (Unicode 16, table 3-7).
inline Utf8Char decode_utf8(std::string_view text) {
  const auto byte = [&](size_t i) -> uint32_t { return static_cast<uint8_t>(text[i]); };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead < 0xE0 && text.size() >= 2 && follows(1)) {
    return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  }
  if (lead >> 4 == 0xE && text.size() >= 3 && follows(1) && follows(2)) {
    const uint32_t code_point = (lead & 0xF) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (code_point >= 0x800 && (code_point < 0xD800 || code_point > 0xDFFF)) return {code_point, 3};
  }
  if (lead >> 3 == 0x1E && text.size() >= 4 && follows(1) && follows(2) && follows(3)) {
    const uint32_t code_point = (lead & 0x7) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (code_point >= 0x10000 && code_point < 0x110000) return {code_point, 4};
  }
  return {};
}

void append_utf8(std::string& out, uint32_t code_point);

// The offset of the first byte that is not UTF-8; std::string_view::npos if there is none.
size_t find_invalid_utf8(std::string_view text);

// For generation: bytes go in as tokens bring them, whole characters come out, never a part of one.
// What can no longer become a character comes out as U+FFFD, one per maximal invalid part (Unicode 16, section 3.9).
class Utf8Stream {
 public:
  // The complete characters that `bytes` finish or hold.
  std::string push(std::string_view bytes);
  // The end of the stream: a sequence left unfinished comes out as U+FFFD.
  std::string flush();

 private:
  std::string pending_;  // at most 3 bytes: the valid beginning of a character
};

}  // namespace colossus
