#include "convert/vocab_merges.h"

#include <fmt/format.h>

#include "convert/checked_json.h"

namespace colossus {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxBytes = 64 << 20;

// Tokens that no merge makes and that look like markers.
bool looks_special(const std::string& token) {
  return token.size() > 2 &&
         ((token.starts_with("<|") && token.ends_with("|>")) || (token.front() == '<' && token.back() == '>'));
}

Result<Json> read_merges(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, kMaxBytes));
  Json merges = Json::array();
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view merge = std::string_view(text).substr(at, end - at);
    if (merge.ends_with('\r')) merge.remove_suffix(1);
    at = end + 1;
    if (merge.empty() || (line == 1 && merge.starts_with("#version"))) continue;
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos ||
        space + 1 == merge.size())
      return invalid(fmt::format("[{}:{}] \"{}\"; needed two tokens with a blank between", path, line, merge));
    merges.push_back(merge);
  }
  return merges;
}

}  // namespace

Result<std::string> tokenizer_of_vocab_and_merges(FileSystem& files, const std::string& directory) {
  const std::string vocab_path = directory + "/vocab.json";
  ASSIGN_OR_RETURN(const nlohmann::json vocab, read_checked_json(files, vocab_path, kMaxBytes));
  if (!vocab.is_object()) return invalid(fmt::format("[{}] is no JSON object of tokens and ids", vocab_path));
  ASSIGN_OR_RETURN(const Json merges, read_merges(files, directory + "/merges.txt"));
  Json added = Json::array(), tokens = Json::object();
  for (const auto& [token, id] : vocab.items()) {
    if (!id.is_number_unsigned())
      return invalid(fmt::format("[{}] \"{}\" has no id; needed a whole number", vocab_path, token));
    // push_back: the ordered object would look through all tokens for each new one.
    tokens.get_ref<Json::object_t&>().push_back({token, Json(id)});
    if (looks_special(token))
      added.push_back({{"id", id},
                       {"content", token},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", byte_level},
                          {"post_processor", nullptr},
                          {"decoder", byte_level},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"vocab", tokens},
                            {"merges", merges}}}};
  try {
    return tokenizer.dump();
  } catch (const nlohmann::json::exception&) {  // merges.txt is no JSON, whose reader would have seen it
    return invalid(fmt::format("[{}/merges.txt] a merge is not valid UTF-8", directory));
  }
}

}  // namespace colossus
