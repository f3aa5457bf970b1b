// Byte-pair encoding of pieces of text: first symbols, merges, and a cache of what came out.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/byte_trie.h"
#include "text/merge_table.h"
#include "text/vocabulary.h"

namespace colossus {

// Where tokens go; and, if asked for, of how many bytes of the model's text each was made.
struct TokenSink {
  std::vector<int32_t>& ids;
  std::vector<size_t>* sizes = nullptr;
};

// Keeps pointers to the spec and its vocabulary, which must outlive it and not move.
class BpeModel {
 public:
  static Result<BpeModel> create(const TokenizerSpec& spec, const Vocabulary& vocabulary);

  // Appends the tokens of the piece [begin, end) of `text`. Fails where the vocabulary lacks a character and nothing
  // stands for it: the message gives the offset in `text`, and `out` keeps what came before it.
  Status encode(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  // The same for the pieces [begin, ends[0]), [ends[0], ends[1]) and so on, at most kMostPieces.
  Status encode_pieces(std::string_view text, size_t begin, std::span<const size_t> ends,
                       std::vector<int32_t>& ids) const;
  static constexpr size_t kMostPieces = 64;
  // Of the character at text[at].
  Status unknown_symbol(std::string_view text, size_t at) const;

 private:
  BpeModel(const TokenizerSpec& spec, const Vocabulary& vocabulary) : spec_(&spec), vocabulary_(&vocabulary) {}
  Status index_merges();
  Status encode_words(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  Status encode_word(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  Status merge_word(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  Status append_symbols(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& symbols,
                        std::vector<size_t>* unknown_sizes) const;
  bool append_fallback(std::string_view character, std::vector<int32_t>& symbols) const;
  void append_sizes(const std::vector<int32_t>& symbols, const std::vector<size_t>& unknown_sizes,
                    std::vector<size_t>& sizes) const;

  const TokenizerSpec* spec_;
  const Vocabulary* vocabulary_;
  MergeTable merges_;
  ByteTrie whole_;
  bool one_word_a_piece_ = false;    // nothing to cut a piece at
  bool blanks_begin_words_ = false;  // no merge joins U+2581 to what stands before it, unless that is U+2581 too
  uint64_t serial_ = 0;              // tells this model's entries in the threads' caches from others'
};

}  // namespace colossus
