// The parts of tokenizer.json: readers and writers of its steps.
#pragma once

#include <string>

#include "text/json_fields.h"
#include "text/tokenizer_spec.h"

namespace colossus {

// Each reads the value at `path` into its part of `spec`. What is not supported is refused, with its path.
Status read_normalizer(const Json& json, const std::string& path, TokenizerSpec& spec);
Status read_pre_tokenizer(const Json& json, const std::string& path, TokenizerSpec& spec);
Status read_decoder(const Json& json, const std::string& path, TokenizerSpec& spec);
Status read_post_processor(const Json& json, const std::string& path, TokenizerSpec& spec);

// Reads the two parts of Metaspace that its pre-tokenizer and its decoder share.
Result<Metaspace> read_metaspace(const Json& json, const std::string& path);
Result<ReplaceText> read_replace(const Json& json, const std::string& path);

// The same four, written; "null" for nothing. Only what from_json can read: see tokenizer_convert.h.
std::string normalizer_json(const TokenizerSpec& spec);
std::string pre_tokenizer_json(const TokenizerSpec& spec);
std::string decoder_json(const TokenizerSpec& spec);
std::string post_processor_json(const TokenizerSpec& spec);
void append_json_string(std::string& out, std::string_view text);

}  // namespace colossus
