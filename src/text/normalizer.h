// What is done to a text before it is cut: the normalizers of tokenizer.json, and SentencePiece's own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/aligned_text.h"
#include "text/byte_trie.h"
#include "text/charsmap.h"
#include "text/regex.h"

namespace colossus {

struct UnicodeForm {  // Unicode 16, section 3.11
  bool compatibility = false;
  bool compose = false;
};
struct Lowercase {};
struct StripSpace {
  bool left = true;
  bool right = true;
};
struct StripAccents {};  // drops all marks
struct ReplaceText {
  std::string literal;  // or, where empty:
  std::optional<Regex> regex;
  std::string content;
};
struct PrependText {  // to what is not empty
  std::string text;
};
struct MapCharacters {  // "Precompiled" in tokenizer.json; longest match, as SentencePiece does
  std::shared_ptr<const Charsmap> map;
};
// SentencePiece's normalizer, whole: the map, blanks, the blank in front, blanks as U+2581.
struct SentencePieceNormalizer {
  std::shared_ptr<const Charsmap> map;
  std::shared_ptr<const ByteTrie> kept;  // strings that are taken as they are: user-defined pieces
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
};

using NormalizerStep = std::variant<UnicodeForm, Lowercase, StripSpace, StripAccents, ReplaceText, PrependText,
                                    MapCharacters, SentencePieceNormalizer>;

inline constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581, which stands for a blank in vocabularies

// Applies the steps in order. Fails only where a regular expression runs away. What is no UTF-8 stays as it is, but
// for SentencePiece, which makes U+FFFD of it.
Status normalize(const std::vector<NormalizerStep>& steps, AlignedText& text);

}  // namespace colossus
