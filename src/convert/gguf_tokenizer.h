// The tokenizer that a GGUF file holds, and a tokenizer of ours as such files hold it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "convert/gguf_file.h"
#include "text/tokenizer.h"

namespace colossus {

struct GgufTokenizer {
  std::string json;           // a tokenizer.json; "": none that could be made, and a note says why
  std::string chat_template;  // Jinja; "": none
  std::vector<int32_t> begin_ids, end_ids;
  bool adds_begin = false;  // before every text
  std::vector<std::string> notes;
};

// `vocab_size` is the model's. Refuses ids that are none of its tokens; a tokenizer of a kind that is not known is a
// note, for the model runs on token ids.
Result<GgufTokenizer> read_gguf_tokenizer(const GgufFile& file, int64_t vocab_size);

// Arrays as writers need them; std::string: bytes.
using GgufList = std::variant<std::vector<std::string>, std::vector<float>, std::vector<int32_t>, std::string>;

struct GgufTokenizerKeys {
  GgufMetadata metadata;
  std::map<std::string, GgufList> lists;
  std::vector<std::string> notes;  // where llama.cpp will read text in another way
};

struct CarriedTokenizer {
  std::string chat_template;  // "": for tokenizers of our own, the chat format's
  std::optional<int32_t> begin_id, end_id;
};

// With `vocab_size` tokens, the last ones fillers where the tokenizer has fewer. What llama.cpp has no name for is left
// out with a note; the model then runs there on token ids. Whether the vocabulary encodes as the tokenizer is tried out
// with its own tokens and some text.
Result<GgufTokenizerKeys> gguf_tokenizer(const Tokenizer& tokenizer, int64_t vocab_size,
                                         const CarriedTokenizer& carried);
// The keys of a file without one.
GgufTokenizerKeys gguf_no_tokenizer();

}  // namespace colossus
