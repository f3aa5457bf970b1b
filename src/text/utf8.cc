#include "text/utf8.h"

#include <algorithm>

namespace colossus {

namespace {

uint8_t byte_at(std::string_view text, size_t index) { return static_cast<uint8_t>(text[index]); }

// Bytes a character needs that begins with `lead`; 0 if none begins so.
uint32_t sequence_length(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;  // a continuation byte, or an overlong form
  if (lead < 0xE0) return 2;
  if (lead < 0xF0) return 3;
  return lead < 0xF5 ? 4 : 0;
}

// How many bytes of text[0..] agree with some character; at least 1 when the first does.
uint32_t valid_prefix(std::string_view text, uint32_t length) {
  if (length < 2 || text.size() < 2) return 1;
  const uint8_t lead = byte_at(text, 0);
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (byte_at(text, 1) < low || byte_at(text, 1) > high) return 1;
  uint32_t valid = 2;
  while (valid < length && valid < text.size() && (byte_at(text, valid) & 0xC0) == 0x80) ++valid;
  return valid;
}

}  // namespace

void append_utf8(std::string& out, uint32_t code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
    return;
  }
  const int length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
  const uint32_t lead = 0xF00u >> length & 0xFF;
  out += static_cast<char>(lead | code_point >> (6 * (length - 1)));
  for (int i = length - 2; i >= 0; --i) out += static_cast<char>(0x80 | (code_point >> (6 * i) & 0x3F));
}

size_t find_invalid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.code_point == kInvalidCodePoint) return at;
    at += c.num_bytes;
  }
  return std::string_view::npos;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  const std::string_view text = pending_;
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    const uint32_t length = sequence_length(byte_at(rest, 0));
    const uint32_t valid = length == 0 ? 1 : valid_prefix(rest, length);
    if (length != 0 && valid == rest.size() && valid < length) break;  // more bytes may complete it
    out += valid == length ? rest.substr(0, length) : kReplacementCharacter;
    at += valid;
  }
  pending_.erase(0, at);
  return out;
}

std::string Utf8Stream::flush() {
  std::string out(pending_.empty() ? std::string_view() : kReplacementCharacter);
  pending_.clear();
  return out;
}

}  // namespace colossus
