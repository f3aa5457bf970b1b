// UTF-8 as bytes that may be wrong: decoding one character, and giving out a stream only in whole characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace colossus {

inline constexpr uint32_t kInvalidCodePoint = 0xFFFFFFFF;

struct Utf8Char {
  uint32_t code_point = kInvalidCodePoint;
  uint32_t num_bytes = 1;  // an invalid byte counts as one character of one byte
};

// The character at `text[0]`. Needs a non-empty text. Refuses overlong forms, surrogates and values above U+10FFFF
// (Unicode 16, table 3-7).
Utf8Char decode_utf8(std::string_view text);

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
