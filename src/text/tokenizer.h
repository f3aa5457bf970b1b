// Text to token ids and back, for tokenizers of ours and of others. docs/tokenizers.md tells what is supported,
// docs/formats.md the files.
//
//   text ─ normalizer ─ added tokens ─ pre-tokenizer ─ model ─ begin and end tokens ─▶ ids
//   ids ─ detokenizer ─▶ bytes
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/detokenizer.h"
#include "text/splitter.h"
#include "text/token_bytes.h"
#include "text/tokenizer_spec.h"
#include "text/unigram_model.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace colossus {

struct EncodeOptions {
  // Whether "<|end|>" in the text becomes the special token. Never set it for text that a user or a corpus brings.
  bool allow_special = false;
  // Whether the tokens that the tokenizer's file puts around a text (begin, end) are put.
  bool add_special = false;
};

struct DetokenizeOptions {
  bool skip_special = false;  // special tokens give nothing, instead of their text
};

struct Encoding {
  std::vector<int32_t> ids;
  // The bytes of the text that each token was made from. Tokens of single bytes have theirs; what a normalizer put in,
  // and begin and end tokens, have an empty range where it was put.
  std::vector<TextSpan> spans;
};

// Immutable; every const method may run on any number of threads at once.
class Tokenizer {
 public:
  // Refuses a spec that contradicts itself; messages use the paths of tokenizer.json.
  static Result<Tokenizer> create(TokenizerSpec spec);
  static Result<Tokenizer> from_json(std::string_view json);
  // Fails where tokenizer.json cannot say it: SentencePiece's normalizer, but see text/tokenizer_convert.h.
  std::string to_json() const;

  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Appends the ids of `text` to `out`. Fails only where the vocabulary lacks a byte or character and has nothing to
  // stand for it: the message gives the offset, and `out` keeps what came before it; or where a regular expression runs
  // away. A tokenizer of all 256 bytes never fails.
  Status encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options = {}) const;
  Result<std::vector<int32_t>> encode(std::string_view text, EncodeOptions options = {}) const;
  Result<Encoding> encode_with_spans(std::string_view text, EncodeOptions options = {}) const;

  // The exact bytes of the ids, special tokens as their text. An id outside the vocabulary gives U+FFFD.
  std::string decode(std::span<const int32_t> ids, DetokenizeOptions options = {}) const;
  // The bytes of one token wherever it does not begin a text; empty for an id that no token has. Lives as long as the
  // tokenizer.
  std::string_view token_bytes(int32_t id) const;

  int vocab_size() const { return static_cast<int>(spec().tokens.size()); }  // highest id + 1
  std::optional<int32_t> special(std::string_view text) const;               // the id of an added token
  bool is_special(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view bytes) const;  // of a token that is not a special one
  bool encodes_any_bytes() const;
  const TokenizerSpec& spec() const { return *spec_; }

 private:
  friend class TokenDecoder;
  struct Sink;
  Tokenizer() = default;
  Status index_added();
  Status encode_gaps(std::string_view text, const EncodeOptions& options, Sink& sink) const;
  Status encode_gap(std::string_view text, size_t begin, size_t end, const EncodeOptions& options, Sink& sink) const;
  Status encode_normalized(AlignedText text, bool at_start, Sink& sink) const;
  Status encode_plain(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& ids) const;
  Status encode_model(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  Status encode_unigram(std::string_view text, size_t begin, size_t end, TokenSink out) const;
  void append_token(int32_t id, Detokenizer::State& state, std::string& out) const;

  // On the heap: what follows points into them, also after a move.
  std::unique_ptr<const TokenizerSpec> spec_;
  std::unique_ptr<const Vocabulary> vocabulary_;
  std::optional<BpeModel> bpe_;
  std::optional<UnigramModel> unigram_;
  std::optional<Detokenizer> detokenizer_;  // none: tokens are their bytes
  TokenBytes token_bytes_;                  // wherever they do not begin a text
  AddedTokenFinder added_finder_;           // in the text as it comes
  AddedTokenFinder normalized_finder_;      // in the normalized text
  SplitFunction split_ = nullptr;
  bool plain_ = true;  // nothing but added tokens, a known split and merges
};

// Decoding as tokens come: whole characters go out, and bytes of an unfinished one stay until they are complete.
class TokenDecoder {
 public:
  explicit TokenDecoder(const Tokenizer& tokenizer, DetokenizeOptions options = {})
      : tokenizer_(tokenizer), options_(options) {}
  std::string push(int32_t id);  // what can be shown now; "" is common
  std::string flush();           // the rest: U+FFFD for a character left unfinished

 private:
  const Tokenizer& tokenizer_;
  const DetokenizeOptions options_;
  Detokenizer::State state_;
  Utf8Stream utf8_;
};

// Reads any tokenizer file it knows by its contents: tokenizer.json, SentencePiece's .model, tiktoken ranks.
Result<Tokenizer> load_tokenizer(FileSystem& files, const std::string& path);
Result<Tokenizer> read_tokenizer(std::string_view bytes);
Status save_tokenizer(FileSystem& files, const std::string& path, const Tokenizer& tokenizer);

}  // namespace colossus
