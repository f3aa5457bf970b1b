// SentencePiece's precompiled normalization: a double-array trie (Aoe 1989) from strings to what replaces them, as one
// blob of bytes that models carry. Layout, little-endian: u32 bytes of the trie, the trie's units of u32, replacements
// that end in a zero byte.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace colossus {

class Charsmap {
 public:
  Charsmap() = default;  // replaces nothing
  static Result<Charsmap> read(std::string_view blob);

  struct Match {
    size_t length = 0;             // bytes of the text
    std::string_view replacement;  // lives as long as this
  };
  // The longest string of the map that text[from..] begins with.
  std::optional<Match> longest_prefix(std::string_view text, size_t from) const;

  // Whether this byte stays as it is before another one of ASCII and before the end.
  bool keeps_ascii(uint8_t byte) const { return byte < 128 && !changes_ascii_[byte]; }

  bool empty() const { return units_.empty(); }
  const std::string& blob() const { return blob_; }

 private:
  size_t root() const;
  // From `node` to where `byte` leads, by way of `unit`; false where nothing goes on.
  bool step(size_t& node, uint8_t byte, uint32_t& unit) const;

  std::string blob_;
  std::vector<uint32_t> units_;
  std::array<bool, 128> changes_ascii_{};
  std::string_view replacements() const { return std::string_view(blob_).substr(4 + 4 * units_.size()); }
};

}  // namespace colossus
