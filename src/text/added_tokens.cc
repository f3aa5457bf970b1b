#include "text/added_tokens.h"

#include <algorithm>

namespace colossus {

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    const char first = token.text[0];
    by_first_byte_[static_cast<uint8_t>(first)].push_back(token);
    if (first_bytes_.find(first) == std::string::npos) first_bytes_ += first;
    if (!token.special && first_bytes_not_special_.find(first) == std::string::npos) first_bytes_not_special_ += first;
  }
  for (auto& group : by_first_byte_) {
    std::stable_sort(group.begin(), group.end(),
                     [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
  }
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text, size_t from,
                                                              bool allow_special) const {
  const std::string& first_bytes = allow_special ? first_bytes_ : first_bytes_not_special_;
  if (first_bytes.empty()) return std::nullopt;
  // find(char) is memchr: worth having, since special tokens nearly always share their first byte.
  const auto next = [&](size_t at) {
    return first_bytes.size() == 1 ? text.find(first_bytes[0], at) : text.find_first_of(first_bytes, at);
  };
  for (size_t at = next(from); at != std::string_view::npos; at = next(at + 1)) {
    for (const AddedToken& token : by_first_byte_[static_cast<uint8_t>(text[at])]) {
      if ((allow_special || !token.special) && text.substr(at).starts_with(token.text)) {
        return Found{at, at + token.text.size(), token.id};
      }
    }
  }
  return std::nullopt;
}

}  // namespace colossus
