// What a Hugging Face directory says of how its model's texts begin and end.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/checked_json.h"
#include "io/file_system.h"
#include "model/generation_tokens.h"
#include "text/tokenizer.h"

namespace colossus {

// The small files that say it; null where one is not there.
struct HfTextFiles {
  Json config;             // config.json
  Json generation_config;  // generation_config.json, which goes before config.json
  Json tokenizer_config;   // tokenizer_config.json
};
// The last two; refuses what is no JSON object.
Result<HfTextFiles> read_hf_text_files(FileSystem& files, const std::string& directory, Json config);

// A text begins with what the tokenizer puts there, or else with bos_token_id; it ends with any of eos_token_id, one or
// several. `tokenizer`: null where there is none that is read. Ids that the model does not have are told in `notes`.
GenerationTokens read_hf_generation(const HfTextFiles& files, const Tokenizer* tokenizer, int64_t vocab_size,
                                    std::vector<std::string>& notes);

// The name of a token in tokenizer_config.json, which is a string or an object with its content: "bos_token".
std::optional<std::string> token_name(const Json& tokenizer_config, const char* key);

}  // namespace colossus
