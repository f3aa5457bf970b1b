// The vocabulary of a GGUF file as a tokenizer. Whoever reads the file fills in its metadata; nothing here knows the
// file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace colossus {

// The values under "tokenizer.ggml.", those that a file lacks left as they are here.
struct GgufVocabulary {
  std::string model;  // "llama" (SentencePiece's merges), "gpt2" (bytes), "t5" (unigram)
  std::string pre;    // how "gpt2" splits: "llama-bpe", "qwen2", ...
  std::vector<std::string> tokens;
  std::vector<float> scores;        // as many as tokens, or none
  std::vector<int32_t> types;       // token_type: PieceType's numbers; as many as tokens, or none
  std::vector<std::string> merges;  // "left right"
  std::optional<int32_t> bos_id;    // bos_token_id
  std::optional<int32_t> eos_id;
  std::optional<int32_t> unknown_id;
  std::optional<bool> add_bos;  // add_bos_token
  std::optional<bool> add_eos;
  std::optional<bool> add_space_prefix;
  std::optional<bool> remove_extra_whitespaces;
  std::string precompiled_charsmap;  // as bytes
};

// Refuses kinds and splits that are not known, and names those that are.
Result<Tokenizer> tokenizer_from_gguf(const GgufVocabulary& vocabulary);

}  // namespace colossus
