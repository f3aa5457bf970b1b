// All that makes a tokenizer, as plain values: what readers of other people's files fill in and writers write out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/detokenizer.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/splitter.h"

namespace colossus {

// What the first symbols of a piece are, before any merge.
enum class Alphabet { kBytes, kCharacters };

// Pieces with scores instead of merges (text/unigram_model.h).
struct UnigramScores {
  std::vector<double> scores;     // by id; NaN: no text becomes this token
  double unknown_score = 0;       // of a character that no piece holds
  bool single_precision = false;  // as SentencePiece adds them
};

// tokens[id] is the token's bytes, empty where no token has that id. Text goes through: normalizer, added tokens,
// pre-tokenizer, model (merges or unigram), begin and end tokens. Ours leave empty all that has a default here.
struct TokenizerSpec {
  Alphabet alphabet = Alphabet::kBytes;
  SplitPattern pattern = SplitPattern::kCl100k;
  bool ignore_merges = false;  // a piece that is a token by itself is taken as it is, merges or not (Llama 3)
  std::vector<std::string> tokens;
  std::vector<AddedToken> added;                    // each also stands in `tokens` under its id
  std::vector<std::pair<int32_t, int32_t>> merges;  // by rank

  std::vector<NormalizerStep> normalizer = {};
  std::vector<PreTokenizerStep> pre_tokenizer = {};  // if not empty: instead of `pattern`
  std::vector<uint32_t> merge_ranks = {};  // of each merge, rising; empty: 0, 1, 2, ... Equal ones: the leftmost first
  std::optional<int32_t> unknown = std::nullopt;  // what stands for a character that no token holds
  bool fuse_unknown = false;                      // one for a run of them
  bool byte_fallback = false;                     // rather the tokens <0x00> to <0xFF> of its bytes
  std::vector<int32_t> whole = {};                // tokens that merges neither make nor cross: user-defined pieces
  std::optional<UnigramScores> unigram = std::nullopt;
  std::vector<int32_t> prefix = {};       // what EncodeOptions::add_special puts before a text
  std::vector<int32_t> suffix = {};       // and behind it
  std::vector<DecoderStep> decoder = {};  // empty: the tokens' bytes, one after the other
  std::string sentencepiece = {};         // the model's file, if it came from one: it is written as it was
};

}  // namespace colossus
