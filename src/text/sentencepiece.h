// SentencePiece's models (sentencepiece_model.proto): merging ("BPE") and unigram, with their normalizer.
// Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer", 2018.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/piece_vocabulary.h"
#include "text/tokenizer.h"

namespace colossus {

// Encodes and decodes as SentencePiece does, with two differences: bytes that decoding cannot make characters of come
// out as they are; control pieces come out as their text, unless DetokenizeOptions::skip_special.
Result<Tokenizer> tokenizer_from_sentencepiece(std::string_view bytes);
// The same, not yet made: for those who have something to add.
Result<TokenizerSpec> spec_from_sentencepiece(std::string_view bytes);

// What a model's file holds.
struct SentencePieceModel {
  enum class Type { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };
  std::vector<ScoredPiece> pieces;
  uint64_t type = 1;
  bool whitespace_as_suffix = false;
  bool byte_fallback = false;
  std::string unknown_surface = " \xE2\x81\x87 ";
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool denormalizes = false;
};
Result<SentencePieceModel> read_sentencepiece(std::string_view bytes);
std::string write_sentencepiece(const SentencePieceModel& model);

}  // namespace colossus
