// The tokenizer of a Hugging Face directory as a tokenizer.json that this program reads.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "convert/hf_generation.h"

namespace colossus {

// From the first that is there: tokenizer.json, as it is, also where this program cannot use it (an export gives it
// back); tokenizer.model, SentencePiece's, with added_tokens.json; vocab.json with merges.txt. Nothing where there is
// none. `family` as in convert/family.h: it decides what the last two do not say. What will not work is told in
// `notes`.
Result<std::optional<std::string>> read_hf_tokenizer(FileSystem& files, const std::string& directory,
                                                     std::string_view family, const HfTextFiles& texts,
                                                     std::vector<std::string>& notes);

}  // namespace colossus
