#include "data/tokenizer_identity.h"

#include "text/chat.h"

namespace colossus {
namespace {

std::optional<int32_t> first_special(const Tokenizer& tokenizer, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto id = tokenizer.special(name)) return id;
  }
  return std::nullopt;
}

}  // namespace

ShardIdentity shard_identity(const Tokenizer& tokenizer) {
  return {.vocab_size = tokenizer.vocab_size(), .tokenizer_hash = checksum(tokenizer.to_json())};
}

std::optional<int32_t> document_bos_token(const Tokenizer& tokenizer) {
  return first_special(tokenizer, {kBosToken, "<|begin_of_text|>", "<s>", "[BOS]"});
}

std::optional<int32_t> document_eos_token(const Tokenizer& tokenizer) {
  return first_special(tokenizer, {"<|endoftext|>", "<|end_of_text|>", "</s>", "[EOS]"});
}

}  // namespace colossus
