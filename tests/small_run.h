// What runs of the real binary learn from, and the smallest model that learns.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>

namespace colossus {

// The rest of the table, such as num_layers, follows.
inline constexpr const char* kSmallModel = R"([model]
width = 32
num_heads = 2
num_kv_heads = 1
head_dim = 16
num_experts = 2
num_experts_per_token = 1
expert_width = 32
context = 32
)";

// Sentences with enough repetition to learn from, the same each time.
inline std::string small_text(int num_sentences) {
  static const char* const kWords[] = {"the ",  "sea ", "ship ", "captain ", "saw ",  "a ",      "small ",
                                       "wind ", "of ",  "and ",  "again ",   "over ", "island ", "one "};
  std::string text;
  uint32_t state = 1;
  for (int sentence = 0; sentence < num_sentences; ++sentence) {
    for (int word = 0; word < 7; ++word) {
      state = state * 1664525u + 1013904223u;
      text += kWords[(state >> 16) % std::size(kWords)];
    }
    text.back() = '.';
    text += sentence % 5 == 4 ? '\n' : ' ';
  }
  return text;
}

}  // namespace colossus
