#include "convert/hf_generation.h"

#include <fmt/format.h>

namespace colossus {
namespace {

constexpr int64_t kMaxFileBytes = 32 << 20;

Result<Json> read_object(FileSystem& files, const std::string& path) {
  if (!files.stat(path).ok()) return Json();
  ASSIGN_OR_RETURN(Json json, read_checked_json(files, path, kMaxFileBytes));
  if (!json.is_object()) return invalid(fmt::format("[{}] is {}; needed an object", path, brief_json(json)));
  return json;
}

const Json& field(const Json& object, const char* key) {
  static const Json none;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? none : *found;
}

// An id, or a list of them.
std::vector<int32_t> ids_of(const Json& object, const char* file, const char* key, int64_t vocab_size,
                            std::vector<std::string>& notes) {
  const Json& value = field(object, key);
  std::vector<int32_t> ids;
  for (const Json& id : value.is_array() ? value : value.is_null() ? Json::array() : Json::array({value})) {
    if (id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(vocab_size))
      ids.push_back(id.get<int32_t>());
    else
      notes.push_back(fmt::format("{}: {} = {} was passed over; needed ids from 0 to {}", file, key, brief_json(id),
                                  vocab_size - 1));
  }
  return ids;
}

std::vector<int32_t> first_of(const HfTextFiles& files, const char* id_key, const char* name_key,
                              const Tokenizer* tokenizer, int64_t vocab_size, std::vector<std::string>& notes) {
  auto ids = ids_of(files.generation_config, "generation_config.json", id_key, vocab_size, notes);
  if (ids.empty()) ids = ids_of(files.config, "config.json", id_key, vocab_size, notes);
  if (!ids.empty() || !tokenizer) return ids;
  if (const auto name = token_name(files.tokenizer_config, name_key))
    if (const auto id = tokenizer->special(*name); id && *id < vocab_size) return {*id};
  return {};
}

}  // namespace

Result<HfTextFiles> read_hf_text_files(FileSystem& files, const std::string& directory, Json config) {
  HfTextFiles read{.config = std::move(config), .generation_config = {}, .tokenizer_config = {}};
  ASSIGN_OR_RETURN(read.generation_config, read_object(files, directory + "/generation_config.json"));
  ASSIGN_OR_RETURN(read.tokenizer_config, read_object(files, directory + "/tokenizer_config.json"));
  return read;
}

GenerationTokens read_hf_generation(const HfTextFiles& files, const Tokenizer* tokenizer, int64_t vocab_size,
                                    std::vector<std::string>& notes) {
  GenerationTokens tokens;
  tokens.end = first_of(files, "eos_token_id", "eos_token", tokenizer, vocab_size, notes);
  if (tokenizer && !tokenizer->spec().prefix.empty()) {
    tokens.begin = tokenizer->spec().prefix;
    tokens.add_begin = true;
  } else {
    tokens.begin = first_of(files, "bos_token_id", "bos_token", tokenizer, vocab_size, notes);
  }
  return tokens;
}

std::optional<std::string> token_name(const Json& tokenizer_config, const char* key) {
  const Json& token = field(tokenizer_config, key);
  const Json& name = token.is_object() ? field(token, "content") : token;
  if (!name.is_string()) return std::nullopt;
  return name.get<std::string>();
}

}  // namespace colossus
