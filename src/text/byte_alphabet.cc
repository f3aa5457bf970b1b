#include "text/byte_alphabet.h"

#include "text/utf8.h"

namespace colossus {

namespace {

constexpr uint32_t kFirstSubstitute = 0x100;
constexpr uint32_t kAlphabetEnd = 0x100 + 68;  // 68 bytes do not stand for themselves

struct ByteAlphabet {
  std::array<uint16_t, 256> code_point_of_byte;
  std::array<int16_t, kAlphabetEnd> byte_of_code_point;  // -1: not in the alphabet
  std::array<uint8_t, 256> order;
};

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr ByteAlphabet make_alphabet() {
  ByteAlphabet alphabet{};
  uint32_t next = kFirstSubstitute;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet.code_point_of_byte[byte] = static_cast<uint16_t>(stands_for_itself(byte) ? byte : next++);
  }
  for (int16_t& byte : alphabet.byte_of_code_point) byte = -1;
  for (int byte = 0; byte < 256; ++byte) {
    alphabet.byte_of_code_point[alphabet.code_point_of_byte[byte]] = static_cast<int16_t>(byte);
  }
  int position = 0;
  for (const int16_t byte : alphabet.byte_of_code_point) {
    if (byte >= 0) alphabet.order[position++] = static_cast<uint8_t>(byte);
  }
  return alphabet;
}

constexpr ByteAlphabet kAlphabet = make_alphabet();

}  // namespace

const std::array<uint8_t, 256>& byte_alphabet_order() { return kAlphabet.order; }

void append_byte_alphabet(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) append_utf8(out, kAlphabet.code_point_of_byte[static_cast<uint8_t>(byte)]);
}

std::optional<std::string> bytes_of_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.code_point >= kAlphabetEnd || kAlphabet.byte_of_code_point[c.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of_code_point[c.code_point]);
    at += c.num_bytes;
  }
  return bytes;
}

}  // namespace colossus
