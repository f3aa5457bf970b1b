// Vocabularies in tiktoken's form: one line per token, base64 of its bytes and its rank, which is its id.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace colossus {

// A published vocabulary: what its file does not say.
struct TiktokenEncoding {
  std::string_view name;  // "cl100k_base"
  size_t num_ranks;
  SplitPattern pattern;
  std::vector<AddedToken> added;
};
const std::vector<TiktokenEncoding>& tiktoken_encodings();  // r50k_base, p50k_base, cl100k_base, o200k_base

// Ranks alone say which tokens there are, not what each was merged from; that follows, since every token's bytes were
// merged by the ranks below its own. `added` tokens take ids that the ranks leave free.
Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, SplitPattern pattern, std::vector<AddedToken> added);
// One of tiktoken_encodings(), by name, or, without one, told by the number of its ranks.
Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, std::optional<std::string_view> name);

// Fails where ranks cannot say it: all but merges of bytes, by ids that rise with the merges' order.
Result<std::string> tiktoken_ranks(const Tokenizer& tokenizer);

}  // namespace colossus
