#include "infer/text_bounds.h"

#include <fmt/format.h>

#include "data/tokenizer_identity.h"
#include "io/config.h"
#include "text/chat.h"

namespace colossus {
namespace {

Status check_ids(const std::vector<int32_t>& ids, const char* field, int64_t vocab_size, const std::string& place) {
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab_size)
      return invalid(fmt::format("[{}] {} has the id {}; needed ids from 0 to {}", place, field, id, vocab_size - 1));
  return ok_status();
}

std::vector<int32_t> begin_of(const Tokenizer& tokenizer) {
  if (const auto bos = document_bos_token(tokenizer)) return {*bos};
  // Documents follow one another in training: behind the end of one begins the next.
  if (const auto eos = document_eos_token(tokenizer)) return {*eos};
  return {};
}

std::vector<int32_t> end_of(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const auto id : {tokenizer.special(kEndToken), document_eos_token(tokenizer), tokenizer.special(kBosToken)})
    if (id) ids.push_back(*id);
  return ids;
}

}  // namespace

Result<GenerationTokens> text_bounds(const std::map<std::string, std::string>& texts, const Tokenizer& tokenizer,
                                     int64_t vocab_size, const std::string& place) {
  GenerationTokens bounds;
  if (const auto text = texts.find(kGenerationFile); text != texts.end()) {
    const std::string file = place + "/" + kGenerationFile;
    ASSIGN_OR_RETURN(bounds, parse_config<GenerationTokens>(text->second, file));
    RETURN_IF_ERROR(check_ids(bounds.begin, "begin", vocab_size, file));
    RETURN_IF_ERROR(check_ids(bounds.end, "end", vocab_size, file));
  } else if (!tokenizer.spec().prefix.empty()) {
    bounds.begin = tokenizer.spec().prefix;
    bounds.add_begin = true;
  }
  if (bounds.begin.empty()) bounds.begin = begin_of(tokenizer);
  if (bounds.end.empty()) bounds.end = end_of(tokenizer);
  return bounds;
}

Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer, const GenerationTokens& bounds,
                                           std::string_view prompt) {
  ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.encode(prompt));
  if (ids.empty() && bounds.begin.empty())
    return invalid(
        "the prompt is empty, and neither the model nor its tokenizer has a token that begins a text; give at least "
        "one character");
  if (ids.empty() || bounds.add_begin) ids.insert(ids.begin(), bounds.begin.begin(), bounds.begin.end());
  return ids;
}

}  // namespace colossus
