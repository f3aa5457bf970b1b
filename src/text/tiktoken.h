// Vocabularies in tiktoken's form: one line per token, base64 of its bytes and its rank, which is its id.
#pragma once

#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace colossus {

// Ranks alone say which tokens there are, not what each was merged from; that follows, since every token's bytes were
// merged by the ranks below its own. `added` tokens take ids that the ranks leave free.
Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, SplitPattern pattern, std::vector<AddedToken> added);

}  // namespace colossus
