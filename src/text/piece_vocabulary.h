// Vocabularies of scored pieces, as SentencePiece and GGUF have them, as parts of a tokenizer.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "text/tokenizer_spec.h"

namespace colossus {

// Numbers as in both formats.
enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct ScoredPiece {
  std::string text;  // with U+2581 for blanks
  float score = 0;
  PieceType type = PieceType::kNormal;
};

// Fills in tokens, added tokens (control pieces, special), whole tokens (user-defined pieces), the unknown token, and
// merges: a pair of pieces merges if its text is a piece, in the order of the pieces' scores.
Status fill_from_merging_pieces(const std::vector<ScoredPiece>& pieces, TokenizerSpec& spec);
// The same, but scores for the unigram model.
Status fill_from_unigram_pieces(const std::vector<ScoredPiece>& pieces, TokenizerSpec& spec);

}  // namespace colossus
