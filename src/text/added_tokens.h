// Tokens that stand in the text as they are, outside of all merging: special tokens and others a file adds.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace colossus {

struct AddedToken {
  int32_t id = 0;
  std::string text;     // not empty
  bool special = true;  // only text that may hold special tokens can produce it
};

class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  struct Found {
    size_t begin = 0;
    size_t end = 0;
    int32_t id = -1;
  };
  // The first added token at or after `from`, the longest where several begin; special ones only if `allow_special`.
  std::optional<Found> find(std::string_view text, size_t from, bool allow_special) const;

 private:
  std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longest first
  std::string first_bytes_;                                 // those that begin any token
  std::string first_bytes_not_special_;
};

}  // namespace colossus
