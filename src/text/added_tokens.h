// Tokens that stand in the text as they are, outside of all merging: special tokens and others a file adds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"

namespace colossus {

struct AddedToken {
  static constexpr size_t kMaxBytes = 4096;  // bounds the time that looking for them takes

  int32_t id = 0;
  std::string text;          // not empty
  bool special = true;       // only text that may hold special tokens can produce it
  bool single_word = false;  // not where a word goes on before or behind it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and behind it
  bool normalized = false;   // is looked for in normalized text, itself normalized
};

class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);
  // texts[i] is what to look for in place of tokens[i].text.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::vector<std::string>& texts);

  struct Found {
    size_t begin = 0;
    size_t end = 0;
    int32_t id = -1;
  };
  // The first added token at or after `from`, the longest where several begin; special ones only if `allow_special`.
  std::optional<Found> find(std::string_view text, size_t from, bool allow_special) const;
  bool empty() const { return tokens_.empty(); }

 private:
  struct Search {
    ByteTrie trie;  // to indices into tokens_
    std::string first_bytes;
    size_t next(std::string_view text, size_t at) const;
  };

  std::vector<AddedToken> tokens_;
  Search all_;
  Search ordinary_;  // those that are not special
};

}  // namespace colossus
