#include "convert/vocab_merges.h"

#include <fmt/format.h>

#include <unordered_set>

#include "io/checked_json.h"
#include "text/gguf_vocabulary.h"
#include "text/piece_vocabulary.h"

namespace colossus {
namespace {

constexpr int64_t kMaxBytes = 64 << 20;

bool looks_special(const std::string& token) {
  return token.size() > 2 &&
         ((token.starts_with("<|") && token.ends_with("|>")) || (token.front() == '<' && token.back() == '>'));
}

Result<std::vector<std::string>> read_merges(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, kMaxBytes));
  std::vector<std::string> merges;
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view merge = std::string_view(text).substr(at, end - at);
    if (merge.ends_with('\r')) merge.remove_suffix(1);
    at = end + 1;
    if (merge.empty() || (line == 1 && merge.starts_with("#version"))) continue;
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos ||
        space + 1 == merge.size())
      return invalid(fmt::format("[{}:{}] {}; needed two tokens with a blank between", path, line,
                                 brief_json(Json(std::string(merge)))));
    merges.emplace_back(merge);
  }
  return merges;
}

// Tokens by id, behind the merges; ids that none has are there too, as unused ones.
Status place_tokens(const Json& vocab, const std::string& path, GgufVocabulary& vocabulary) {
  std::unordered_set<std::string> merged;
  for (std::string merge : vocabulary.merges) merged.insert(merge.erase(merge.find(' '), 1));
  const size_t limit = 2 * vocab.size() + 1024;  // gaps are real, but memory must not follow one number in a file
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= limit)
      return invalid(fmt::format("[{}] {} has the id {}; needed a whole number below {}", path, brief_json(Json(token)),
                                 brief_json(id), limit));
    const auto place = id.get<size_t>();
    if (place >= vocabulary.tokens.size()) {
      vocabulary.tokens.resize(place + 1);
      vocabulary.types.resize(place + 1, static_cast<int32_t>(PieceType::kUnused));
    }
    if (!vocabulary.tokens[place].empty())
      return invalid(fmt::format("[{}] {} and {} both have the id {}", path, brief_json(Json(vocabulary.tokens[place])),
                                 brief_json(Json(token)), place));
    vocabulary.tokens[place] = token;
    const bool special = looks_special(token) && !merged.contains(token);
    vocabulary.types[place] = static_cast<int32_t>(special ? PieceType::kControl : PieceType::kNormal);
  }
  return ok_status();
}

}  // namespace

Result<std::string> tokenizer_of_vocab_and_merges(FileSystem& files, const std::string& directory,
                                                  const std::string& split) {
  const std::string vocab_path = directory + "/vocab.json";
  ASSIGN_OR_RETURN(const Json vocab, read_checked_json(files, vocab_path, kMaxBytes));
  if (!vocab.is_object())
    return invalid(fmt::format("[{}] is {}; needed an object of tokens and ids", vocab_path, brief_json(vocab)));
  GgufVocabulary vocabulary{.model = "gpt2", .pre = split};
  ASSIGN_OR_RETURN(vocabulary.merges, read_merges(files, directory + "/merges.txt"));
  RETURN_IF_ERROR(place_tokens(vocab, vocab_path, vocabulary));
  const auto tokenizer = tokenizer_from_gguf(vocabulary);
  if (!tokenizer.ok()) return tokenizer.status().at(directory);
  return tokenizer->to_json();
}

}  // namespace colossus
