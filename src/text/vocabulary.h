// Which token has which bytes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_spec.h"

namespace colossus {

// Bytes for a message: quoted where they are UTF-8.
std::string printable_bytes(std::string_view bytes);
// The byte that <0x41> stands for; nothing for any other text.
std::optional<uint8_t> byte_of_fallback(std::string_view token);

// Keeps views into the spec, which must outlive it and not change.
class Vocabulary {
 public:
  Vocabulary() = default;
  static Result<Vocabulary> create(const TokenizerSpec& spec);

  // The token of these bytes; never a special one.
  std::optional<int32_t> find(std::string_view bytes) const {
    const auto found = ids_.find(bytes);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  int32_t byte_id(uint8_t byte) const { return byte_ids_[byte]; }          // of a token of one byte; -1: none
  int32_t fallback_id(uint8_t byte) const { return fallback_ids_[byte]; }  // of <0xHH>; -1: none
  bool is_fallback(int32_t id) const { return is_fallback_[static_cast<size_t>(id)]; }
  bool is_special(int32_t id) const { return special_[static_cast<size_t>(id)]; }
  bool has_all_bytes() const;
  bool has_all_fallbacks() const;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;
  std::array<int32_t, 256> byte_ids_{};
  std::array<int32_t, 256> fallback_ids_{};
  std::vector<bool> is_fallback_;
  std::vector<bool> special_;
};

}  // namespace colossus
