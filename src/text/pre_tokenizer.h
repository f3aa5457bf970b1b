// How a normalized text is cut before the model sees it: the pre-tokenizers of tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/aligned_text.h"
#include "text/regex.h"
#include "text/splitter.h"

namespace colossus {

// What becomes of the places that a pre-tokenizer finds.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitText {
  // One of the three: a known expression, another one, or a string.
  std::optional<SplitPattern> known;
  std::optional<Regex> regex;
  std::string literal;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what is not found is what is found
};
struct ByteLevel {
  bool add_prefix_space = false;
  bool use_regex = false;  // GPT-2's
};
struct Metaspace {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\xE2\x96\x81";
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};
struct Digits {
  bool individual = false;
};
struct WhitespaceSplit {};
struct WordsAndRest {};  // "Whitespace": \w+|[^\w\s]+
struct Punctuation {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};

using PreTokenizerStep =
    std::variant<SplitText, ByteLevel, Metaspace, Digits, WhitespaceSplit, WordsAndRest, Punctuation>;

// Cuts `text`, which some steps change. `at_start`: it stands at the very beginning of what is encoded. Pieces are in
// order, not empty, and need not cover the text. Fails only where a regular expression runs away.
Status pre_tokenize(const std::vector<PreTokenizerStep>& steps, bool at_start, AlignedText& text,
                    std::vector<TextSpan>& pieces);

}  // namespace colossus
