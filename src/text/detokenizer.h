// Token ids to bytes: the decoders of tokenizer.json, and SentencePiece's own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"

namespace colossus {

struct TokenizerSpec;

struct ByteLevelDecoder {};     // tokens are bytes: nothing to do
struct ByteFallbackDecoder {};  // <0x41> is the byte
struct FuseDecoder {};          // from here on the text is one
struct StripDecoder {
  std::string content = " ";  // one character
  int start = 0;              // up to so many of it at the beginning
  int stop = 0;               // and at the end
};
struct JoinWithBlanks {};  // no decoder at all, to tokenizer.json
struct SentencePieceDecoder {
  bool strip_first = true;  // the blank in front that encoding put there
  bool strip_all = false;   // all blanks in front
  std::string unknown = " \xE2\x81\x87 ";
};

using DecoderStep = std::variant<ByteLevelDecoder, ByteFallbackDecoder, FuseDecoder, StripDecoder, JoinWithBlanks,
                                 ReplaceText, Metaspace, SentencePieceDecoder>;

// The bytes of each token wherever it stands, and what is different at the beginning of a text.
class Detokenizer {
 public:
  Detokenizer() = default;
  // Refuses steps in an order that would need the whole text at once: "decoders[i] ...".
  static Result<Detokenizer> create(const TokenizerSpec& spec);

  // Empty for an id that no token has.
  std::string_view bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  // Where a text has begun.
  struct State {
    bool at_start = true;  // no token yet (Metaspace, blanks between), or nothing written yet (the others)
    int strip_left = -1;   // of what StripDecoder may still take; -1: not begun
  };
  void append(int32_t id, State& state, std::string& out) const;
  // Whether from here on a text is its tokens' bytes.
  bool is_plain_from(const State& state) const {
    return start_ == Start::kPlain || (start_ != Start::kJoin && !state.at_start);
  }

 private:
  enum class Start { kPlain, kJoin, kMetaspace, kStrip, kSentencePiece };

  std::vector<std::string> bytes_;
  std::vector<uint8_t> is_byte_;  // by id: came from <0xHH>
  Start start_ = Start::kPlain;
  Metaspace metaspace_;
  StripDecoder strip_;
  SentencePieceDecoder sentencepiece_;
  std::vector<std::string> first_;  // what a token is as a text's first; only for kMetaspace and kSentencePiece
};

}  // namespace colossus
