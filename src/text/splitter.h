// Cuts text into the pieces that byte-pair merges never cross, as the published regular expressions do, but by hand:
// one pass, no backtracking, any bytes. splitter_test holds each against PCRE2.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace colossus {

enum class SplitPattern {
  kNone,    // the whole text is one piece
  kGpt2,    // r50k
  kCl100k,  // GPT-4, Llama 3
  kQwen2,   // as cl100k, but every digit alone
  kO200k,   // GPT-4o
};

// "gpt2", "cl100k", "qwen2", "o200k", "none".
const char* split_pattern_name(SplitPattern pattern);
std::optional<SplitPattern> split_pattern_named(std::string_view name);
// The regular expression as tokenizer.json spells it; empty for kNone.
const char* split_pattern_regex(SplitPattern pattern);
std::optional<SplitPattern> split_pattern_of_regex(std::string_view regex);

// The end of the piece that begins at `begin`; needs begin < text.size(); never returns `begin`. A byte that is not
// UTF-8 is one character that is neither letter, number nor space.
using SplitFunction = size_t (*)(std::string_view text, size_t begin);
SplitFunction split_function(SplitPattern pattern);

}  // namespace colossus
