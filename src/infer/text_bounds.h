// How the texts of a model begin and end, and prompts as ids.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/generation_tokens.h"
#include "text/tokenizer.h"

namespace colossus {

// By the checkpoint's generation.toml; what it leaves open, and where there is none, by the tokenizer: the tokens that
// its file puts before a text, or else the special tokens around a document in training, by their names. `texts` are
// the checkpoint's, `place` is for messages. Fails on ids that the model does not have.
Result<GenerationTokens> text_bounds(const std::map<std::string, std::string>& texts, const Tokenizer& tokenizer,
                                     int64_t vocab_size, const std::string& place);

// What the model is to continue; begins as bounds say. Fails where nothing would be left to begin with, or the
// tokenizer lacks a character of it.
Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer, const GenerationTokens& bounds,
                                           std::string_view prompt);

}  // namespace colossus
