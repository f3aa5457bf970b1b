// The unigram language model: of all ways to cut a text into pieces, the one with the highest sum of scores.
// Kudo, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword Candidates", 2018.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_trie.h"

namespace colossus {

class UnigramModel {
 public:
  static constexpr size_t kMaxPieceBytes = 1024;  // bounds the time per byte of text

  struct Piece {
    int32_t id;  // -1: a character that no piece begins with
    size_t num_bytes;
  };

  // tokens[id] is looked for where scores[id] is a number (not NaN). `unknown_score` is that of a character which is no
  // piece. `single_precision`: sums are rounded to floats, as SentencePiece does, which decides between near ties.
  UnigramModel(const std::vector<std::string>& tokens, const std::vector<double>& scores, double unknown_score,
               bool single_precision);

  // Appends the pieces of `text` in order. Time: the text's length times the longest piece's.
  void encode(std::string_view text, std::vector<Piece>& out) const;

 private:
  template <class Sum>
  void best_path(std::string_view text, std::vector<Piece>& out) const;

  ByteTrie trie_;
  std::vector<double> scores_;
  double unknown_score_;
  bool single_precision_;
};

}  // namespace colossus
