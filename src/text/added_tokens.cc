#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode_data.h"
#include "text/utf8.h"

namespace colossus {

namespace {

// The beginning of the character that ends at `end`, which is not 0.
size_t before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return decode_utf8(text.substr(begin)).num_bytes == end - begin ? begin : end - 1;
}

uint32_t code_point(std::string_view text, size_t at) { return decode_utf8(text.substr(at)).code_point; }

// Rust's \w, which decides here, has the two joiners as well.
bool is_word(uint32_t c) { return is_word_character(c) || c == 0x200C || c == 0x200D; }

bool inside_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word(code_point(text, before(text, begin)))) ||
         (end < text.size() && is_word(code_point(text, end)));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens)
    : AddedTokenFinder(tokens, [&] {
        std::vector<std::string> texts;
        for (const AddedToken& token : tokens) texts.push_back(token.text);
        return texts;
      }()) {}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::vector<std::string>& texts)
    : tokens_(tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    for (Search* search : {&all_, &ordinary_}) {
      if (texts[i].empty() || (search == &ordinary_ && tokens[i].special)) continue;
      search->trie.insert(texts[i], static_cast<int32_t>(i));
      if (search->first_bytes.find(texts[i][0]) == std::string::npos) search->first_bytes += texts[i][0];
    }
  }
}

size_t AddedTokenFinder::Search::next(std::string_view text, size_t at) const {
  // find(char) is memchr: worth having, since special tokens nearly always share their first byte.
  if (first_bytes.size() == 1) return text.find(first_bytes[0], at);
  while (at < text.size() && !trie.begins_any(text[at])) ++at;
  return at < text.size() ? at : std::string_view::npos;
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text, size_t from,
                                                              bool allow_special) const {
  const Search& search = allow_special ? all_ : ordinary_;
  if (search.first_bytes.empty()) return std::nullopt;
  for (size_t at = search.next(text, from); at != std::string_view::npos;) {
    const auto match = search.trie.longest_prefix(text, at);
    if (!match) {
      at = search.next(text, at + 1);
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match->value)];
    Found found{at, at + match->length, token.id};
    if (token.single_word && inside_word(text, found.begin, found.end)) {
      at = search.next(text, found.end);
      continue;
    }
    while (token.lstrip && found.begin > from) {
      const size_t begin = before(text, found.begin);
      if (begin < from || !is_white_space(code_point(text, begin))) break;
      found.begin = begin;
    }
    while (token.rstrip && found.end < text.size()) {
      const Utf8Char c = decode_utf8(text.substr(found.end));
      if (!is_white_space(c.code_point)) break;
      found.end += c.num_bytes;
    }
    return found;
  }
  return std::nullopt;
}

}  // namespace colossus
