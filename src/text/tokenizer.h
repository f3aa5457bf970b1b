// Text to token ids and back. Two kinds share one file format (tokenizer.json, see docs/formats.md):
// byte-level byte-pair encoding, and one token per character.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "io/file_system.h"
#include "text/added_tokens.h"
#include "text/merge_table.h"
#include "text/splitter.h"

namespace colossus {

// What the first symbols of a piece are, before any merge.
enum class Alphabet { kBytes, kCharacters };

// All that makes a tokenizer. tokens[id] is the token's bytes, empty where no token has that id.
struct TokenizerSpec {
  Alphabet alphabet = Alphabet::kBytes;
  SplitPattern pattern = SplitPattern::kCl100k;
  bool ignore_merges = false;  // a piece that is a token by itself is taken as it is, merges or not (Llama 3)
  std::vector<std::string> tokens;
  std::vector<AddedToken> added;                    // each also stands in `tokens` under its id
  std::vector<std::pair<int32_t, int32_t>> merges;  // by rank
};

struct EncodeOptions {
  // Whether "<|end|>" in the text becomes the special token. Never set it for text that a user or a corpus brings.
  bool allow_special = false;
};

// Immutable; every const method may run on any number of threads at once.
class Tokenizer {
 public:
  // Refuses a spec that contradicts itself; messages use the paths of tokenizer.json.
  static Result<Tokenizer> create(TokenizerSpec spec);
  static Result<Tokenizer> from_json(std::string_view json);
  std::string to_json() const;

  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Appends the ids of `text` to `out`. Fails only where the vocabulary lacks a byte or character: the message gives
  // the offset, and `out` keeps what came before it. A tokenizer of all 256 bytes never fails.
  Status encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options = {}) const;
  Result<std::vector<int32_t>> encode(std::string_view text, EncodeOptions options = {}) const;

  // The exact bytes of the ids, special tokens as their text. An id outside the vocabulary gives U+FFFD.
  std::string decode(std::span<const int32_t> ids) const;
  // The bytes of one token; empty for an id that no token has. Lives as long as the tokenizer.
  std::string_view token_bytes(int32_t id) const;

  int vocab_size() const { return static_cast<int>(spec_.tokens.size()); }  // highest id + 1
  std::optional<int32_t> special(std::string_view text) const;              // the id of an added token
  bool is_special(int32_t id) const;
  std::optional<int32_t> token_id(std::string_view bytes) const;  // of a token that is not an added one
  bool encodes_any_bytes() const;
  const TokenizerSpec& spec() const { return spec_; }

 private:
  Tokenizer() = default;
  Status index_tokens();
  Status index_merges();
  Status encode_part(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const;
  Status encode_piece(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const;
  Status append_symbols(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const;
  Status unknown_symbol(std::string_view text, size_t at) const;

  TokenizerSpec spec_;
  std::unordered_map<std::string_view, int32_t> ids_;  // views into spec_.tokens; without added tokens
  std::array<int32_t, 256> byte_ids_{};                // -1: no token
  MergeTable merges_;
  AddedTokenFinder added_finder_;
  std::vector<bool> special_;  // by id
  SplitFunction split_ = nullptr;
  uint64_t serial_ = 0;  // tells this tokenizer's entries in the threads' caches from others'
};

Result<Tokenizer> load_tokenizer(FileSystem& files, const std::string& path);
Status save_tokenizer(FileSystem& files, const std::string& path, const Tokenizer& tokenizer);

}  // namespace colossus
