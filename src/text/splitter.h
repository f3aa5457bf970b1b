// Cuts text into the pieces that byte-pair merges never cross, as the published regular expressions do, but by hand:
// one pass, no backtracking, any bytes. splitter_test holds each against PCRE2.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
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

// Fills in the ends of the pieces from `begin` on, as many as there is room or text for, and returns their number. A
// piece ends where the next one begins; none is empty. A byte that is not UTF-8 is one character that is neither
// letter, number nor space.
using SplitFunction = size_t (*)(std::string_view text, size_t begin, std::span<size_t> ends);
SplitFunction split_function(SplitPattern pattern);

// Calls piece(begin, end) for each piece of text[begin..], in order.
template <class Piece>
void for_each_piece(SplitFunction split, std::string_view text, size_t begin, Piece&& piece) {
  std::array<size_t, 64> ends;
  while (begin < text.size()) {
    const size_t num_pieces = split(text, begin, ends);
    for (size_t i = 0; i < num_pieces; ++i) {
      piece(begin, ends[i]);
      begin = ends[i];
    }
  }
}

// How often a character is looked at when all of `text` is split: what the time of splitting is in proportion to.
int64_t count_split_reads(SplitPattern pattern, std::string_view text);

}  // namespace colossus
