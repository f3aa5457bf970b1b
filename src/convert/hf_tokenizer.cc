#include "convert/hf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "convert/vocab_merges.h"
#include "text/sentencepiece.h"

namespace colossus {
namespace {

constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;
constexpr int64_t kMaxAddedBytes = 32 << 20;

// Whether programs that read such a directory put the begin token before a text: their class for it says so where the
// file does not.
bool adds_begin(const Json& tokenizer_config, std::string_view family) {
  if (tokenizer_config.is_object()) {
    if (const auto said = tokenizer_config.find("add_bos_token"); said != tokenizer_config.end() && said->is_boolean())
      return said->get<bool>();
    if (const auto kind = token_name(tokenizer_config, "tokenizer_class"))
      return kind->starts_with("Llama") || kind->starts_with("CodeLlama");
  }
  return family == "llama" || family == "mistral" || family == "mixtral";
}

// Tokens that were put behind the pieces: by id.
Result<std::map<int32_t, std::string>> read_added(FileSystem& files, const std::string& path) {
  std::map<int32_t, std::string> added;
  if (!files.stat(path).ok()) return added;
  ASSIGN_OR_RETURN(const Json json, read_checked_json(files, path, kMaxAddedBytes));
  if (!json.is_object()) return invalid(fmt::format("[{}] is {}; needed an object", path, brief_json(json)));
  for (const auto& [name, id] : json.items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > (1U << 30) || name.empty())
      return invalid(
          fmt::format("[{}] {} = {}; needed a token and its id", path, brief_json(Json(name)), brief_json(id)));
    if (!added.emplace(id.get<int32_t>(), name).second)
      return invalid(fmt::format("[{}] two tokens have the id {}", path, id.get<int32_t>()));
  }
  return added;
}

Result<std::string> tokenizer_of_sentencepiece(FileSystem& files, const std::string& directory, std::string_view family,
                                               const HfTextFiles& texts, std::vector<std::string>& notes) {
  const std::string path = directory + "/tokenizer.model";
  ASSIGN_OR_RETURN(std::string bytes, read_file(files, path, kMaxTokenizerBytes));
  auto model = read_sentencepiece(bytes);
  if (!model.ok()) return model.status().at(path);
  ASSIGN_OR_RETURN(const auto added, read_added(files, directory + "/added_tokens.json"));
  const size_t num_pieces = model->pieces.size();
  for (const auto& [id, text] : added) {
    if (static_cast<size_t>(id) < num_pieces) continue;  // it is a piece already
    if (static_cast<size_t>(id) == model->pieces.size())
      model->pieces.push_back({.text = text, .score = 0, .type = PieceType::kControl});
    else
      notes.push_back(
          fmt::format("{}/added_tokens.json: {} with the id {} was passed over; the one before it has no "
                      "token",
                      directory, brief_json(Json(text)), id));
  }
  // The file as it was, where nothing was added: an export gives that back.
  if (model->pieces.size() > num_pieces) bytes = write_sentencepiece(*model);
  auto spec = spec_from_sentencepiece(bytes);
  if (!spec.ok()) return spec.status().at(path);
  const std::string begin = token_name(texts.tokenizer_config, "bos_token").value_or("<s>");
  const auto found = std::ranges::find(spec->added, begin, &AddedToken::text);
  if (found != spec->added.end() && adds_begin(texts.tokenizer_config, family)) spec->prefix = {found->id};
  auto tokenizer = Tokenizer::create(std::move(*spec));
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer->to_json();
}

}  // namespace

Result<std::optional<std::string>> read_hf_tokenizer(FileSystem& files, const std::string& directory,
                                                     std::string_view family, const HfTextFiles& texts,
                                                     std::vector<std::string>& notes) {
  const auto has = [&](const char* name) { return files.stat(directory + "/" + name).ok(); };
  if (has("tokenizer.json")) {
    ASSIGN_OR_RETURN(std::string json, read_file(files, directory + "/tokenizer.json", kMaxTokenizerBytes));
    return std::optional(std::move(json));
  }
  if (has("tokenizer.model")) {
    ASSIGN_OR_RETURN(std::string json, tokenizer_of_sentencepiece(files, directory, family, texts, notes));
    return std::optional(std::move(json));
  }
  if (has("vocab.json") && has("merges.txt")) {
    ASSIGN_OR_RETURN(std::string json,
                     tokenizer_of_vocab_and_merges(files, directory, family.starts_with("qwen") ? "qwen2" : "gpt-2"));
    return std::optional(std::move(json));
  }
  notes.push_back(
      fmt::format("{}: no tokenizer.json, tokenizer.model, or vocab.json with merges.txt; the model runs on token ids "
                  "only (put one there and import again)",
                  directory));
  return std::optional<std::string>();
}

}  // namespace colossus
