#include "text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/utf8.h"

namespace colossus {

std::string printable_bytes(std::string_view bytes) {
  if (find_invalid_utf8(bytes) == std::string_view::npos) return fmt::format("'{}'", bytes);
  std::string out = "bytes";
  for (const char byte : bytes) out += fmt::format(" {:02X}", static_cast<uint8_t>(byte));
  return out;
}

std::optional<uint8_t> byte_of_fallback(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

Result<Vocabulary> Vocabulary::create(const TokenizerSpec& spec) {
  const size_t num_ids = spec.tokens.size();
  Vocabulary made;
  std::vector<bool> added(num_ids);
  made.special_.resize(num_ids);
  made.is_fallback_.resize(num_ids);
  made.byte_ids_.fill(-1);
  made.fallback_ids_.fill(-1);
  for (size_t i = 0; i < spec.added.size(); ++i) {
    const AddedToken& token = spec.added[i];
    if (token.text.empty()) return invalid(fmt::format("added_tokens[{}].content is empty; a token needs text", i));
    if (token.text.size() > AddedToken::kMaxBytes) {
      return invalid(fmt::format("added_tokens[{}].content has {} bytes; at most {} are supported", i,
                                 token.text.size(), AddedToken::kMaxBytes));
    }
    if (token.id < 0 || static_cast<size_t>(token.id) >= num_ids || spec.tokens[token.id] != token.text) {
      return invalid(
          fmt::format("added_tokens[{}]: id {} is not the token {}", i, token.id, printable_bytes(token.text)));
    }
    if (added[token.id]) return invalid(fmt::format("added_tokens[{}]: id {} was added before", i, token.id));
    added[token.id] = true;
    made.special_[token.id] = token.special;
  }
  made.ids_.reserve(num_ids);
  for (size_t id = 0; id < num_ids; ++id) {
    const std::string& token = spec.tokens[id];
    if (token.empty() || added[id]) continue;
    const auto [entry, is_new] = made.ids_.emplace(token, static_cast<int32_t>(id));
    if (!is_new) {
      return invalid(fmt::format("model.vocab: ids {} and {} are both {}", entry->second, id, printable_bytes(token)));
    }
    if (token.size() == 1) made.byte_ids_[static_cast<uint8_t>(token[0])] = static_cast<int32_t>(id);
    if (const auto byte = spec.byte_fallback ? byte_of_fallback(token) : std::nullopt) {
      made.fallback_ids_[*byte] = static_cast<int32_t>(id);
      made.is_fallback_[id] = true;
    }
  }
  // Ordinary added tokens are also what merges make of their parts; an unadded token of the same bytes goes before.
  for (const AddedToken& token : spec.added) {
    if (token.special || !made.ids_.emplace(spec.tokens[token.id], token.id).second) continue;
    if (token.text.size() == 1) made.byte_ids_[static_cast<uint8_t>(token.text[0])] = token.id;
  }
  return made;
}

bool Vocabulary::has_all_bytes() const { return std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end(); }

bool Vocabulary::has_all_fallbacks() const {
  return std::find(fallback_ids_.begin(), fallback_ids_.end(), -1) == fallback_ids_.end();
}

}  // namespace colossus
