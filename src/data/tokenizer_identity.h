// What shards and checkpoints keep of a tokenizer, to notice that it is another one.
#pragma once

#include "data/shard.h"
#include "text/tokenizer.h"

namespace colossus {

// The hash is of the contents of the tokenizer, not of how its file is written.
ShardIdentity shard_identity(const Tokenizer& tokenizer);

// The special tokens around a document, by the names that tokenizers give them; absent where there is none.
std::optional<int32_t> document_bos_token(const Tokenizer& tokenizer);
std::optional<int32_t> document_eos_token(const Tokenizer& tokenizer);

}  // namespace colossus
