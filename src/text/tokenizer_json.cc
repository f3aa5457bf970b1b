// tokenizer.json, read: the part of the format that is byte-level byte-pair encoding or plain characters. Whatever else
// a file holds is refused by name, since to ignore it would be to encode wrongly in silence.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace colossus {

namespace {

using Json = nlohmann::json;

std::string brief(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

Status wanted(const std::string& path, const Json& got, std::string_view what) {
  return invalid(fmt::format("{} is {}; wanted {}", path, brief(got), what));
}

// A key twice in one object: JSON libraries keep either; a vocabulary must not depend on which. Counting keys against
// what the object ends up with finds that out; only then is it worth keeping them all to name the one.
class RepeatedKeys {
 public:
  explicit RepeatedKeys(bool keep_names) : keep_names_(keep_names) {}

  bool operator()(int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::key) {
      ++open_.back().num_keys;
      const std::string& key = value.get_ref<const std::string&>();
      if (keep_names_ && !open_.back().names.insert(key).second && name_.empty()) name_ = key;
    }
    if (event == Json::parse_event_t::object_end) {
      found_ |= open_.back().num_keys != value.size();
      open_.pop_back();
    }
    return true;
  }
  bool found() const { return found_; }
  const std::string& name() const { return name_; }

 private:
  struct OpenObject {
    size_t num_keys = 0;
    std::unordered_set<std::string> names;
  };
  const bool keep_names_;
  std::vector<OpenObject> open_;
  bool found_ = false;
  std::string name_;
};

Result<Json> parse(std::string_view text) {
  RepeatedKeys repeated(false);
  Json json;
  try {
    json = Json::parse(text, std::ref(repeated));
    if (repeated.found()) {
      RepeatedKeys named(true);
      json = Json::parse(text, std::ref(named));
      return invalid(fmt::format("the key '{}' stands twice in one object", named.name()));
    }
  } catch (const Json::exception& error) {
    return corrupt(fmt::format("not JSON ({} bytes): {}", text.size(), error.what()));
  }
  if (!json.is_object()) return wanted("$", json, "an object");
  return json;
}

// Every key of `object` must be in `known`.
Status only_keys(const Json& object, const std::string& path, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return wanted(path, object, "an object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return invalid(fmt::format("{}.{} is not supported: {}", path, key, brief(value)));
    }
  }
  return ok_status();
}

// `key` of `object` must be absent, null, or one of `neutral`.
Status must_be_neutral(const Json& object, const std::string& path, const char* key, const Json& neutral) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null() || *found == neutral) return ok_status();
  return wanted(path + "." + key, *found, neutral.is_null() ? "null" : fmt::format("null or {}", neutral.dump()));
}

Result<bool> read_bool(const Json& object, const std::string& path, const char* key, bool absent) {
  const auto found = object.find(key);
  if (found == object.end()) return absent;
  if (!found->is_boolean()) return wanted(path + "." + key, *found, "true or false");
  return found->get<bool>();
}

Result<std::string> read_string(const Json& object, const std::string& path, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return invalid(fmt::format("{}.{} is missing", path, key));
  if (!found->is_string()) return wanted(path + "." + key, *found, "a string");
  return found->get<std::string>();
}

Result<int32_t> read_id(const Json& value, const std::string& path, int32_t limit) {
  if (!value.is_number_integer()) return wanted(path, value, "an id, a whole number");
  if (value.is_number_unsigned() ? value.get<uint64_t>() >= static_cast<uint64_t>(limit) : true) {
    return wanted(path, value, fmt::format("an id from 0 to {} (this many tokens leave no wider gaps)", limit - 1));
  }
  return value.get<int32_t>();
}

struct PreTokenizer {
  Alphabet alphabet = Alphabet::kBytes;
  SplitPattern pattern = SplitPattern::kNone;
};

Result<PreTokenizer> read_byte_level(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ASSIGN_OR_RETURN(const bool prefix, read_bool(json, path, "add_prefix_space", true));
  if (prefix)
    return wanted(path + ".add_prefix_space", true, "false: a space put before the text would not decode back");
  ASSIGN_OR_RETURN(const bool regex, read_bool(json, path, "use_regex", true));
  return PreTokenizer{Alphabet::kBytes, regex ? SplitPattern::kGpt2 : SplitPattern::kNone};
}

Result<SplitPattern> read_split(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "pattern", "behavior", "invert"}));
  ASSIGN_OR_RETURN(const std::string behavior, read_string(json, path, "behavior"));
  ASSIGN_OR_RETURN(const bool invert, read_bool(json, path, "invert", false));
  // The patterns match everything, so keeping only matches and isolating them are the same.
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    return wanted(path + ".behavior", behavior, "\"Isolated\" with invert false, or \"Removed\" with invert true");
  }
  const Json& pattern = json.contains("pattern") ? json["pattern"] : Json();
  RETURN_IF_ERROR(only_keys(pattern, path + ".pattern", {"Regex"}));
  ASSIGN_OR_RETURN(const std::string regex, read_string(pattern, path + ".pattern", "Regex"));
  const auto known = split_pattern_of_regex(regex);
  if (!known) return wanted(path + ".pattern.Regex", regex, "the expression of gpt2, cl100k (Llama 3), qwen2 or o200k");
  return *known;
}

Result<PreTokenizer> read_pre_tokenizer(const Json& json, const std::string& path) {
  if (json.is_null()) return PreTokenizer{Alphabet::kCharacters, SplitPattern::kNone};
  if (!json.is_object()) return wanted(path, json, "an object or null");
  ASSIGN_OR_RETURN(const std::string type, read_string(json, path, "type"));
  if (type == "ByteLevel") return read_byte_level(json, path);
  if (type != "Sequence")
    return wanted(path + ".type", type, "\"ByteLevel\", or a \"Sequence\" of \"Split\" and \"ByteLevel\"");
  RETURN_IF_ERROR(only_keys(json, path, {"type", "pretokenizers"}));
  const std::string parts_path = path + ".pretokenizers";
  const Json& parts = json.contains("pretokenizers") ? json["pretokenizers"] : Json();
  if (!parts.is_array() || parts.size() != 2) return wanted(parts_path, parts, "two: a \"Split\" and a \"ByteLevel\"");
  for (const size_t i : {0, 1}) {
    const std::string part_path = fmt::format("{}[{}]", parts_path, i);
    if (!parts[i].is_object()) return wanted(part_path, parts[i], "an object");
    ASSIGN_OR_RETURN(const std::string part_type, read_string(parts[i], part_path, "type"));
    const char* needed = i == 0 ? "Split" : "ByteLevel";
    if (part_type != needed) return wanted(part_path + ".type", part_type, fmt::format("\"{}\"", needed));
  }
  ASSIGN_OR_RETURN(const SplitPattern pattern, read_split(parts[0], parts_path + "[0]"));
  ASSIGN_OR_RETURN(const PreTokenizer bytes, read_byte_level(parts[1], parts_path + "[1]"));
  if (bytes.pattern != SplitPattern::kNone) {
    return wanted(parts_path + "[1].use_regex", true, "false: the text is split before");
  }
  return PreTokenizer{Alphabet::kBytes, pattern};
}

Status check_decoder(const Json& json, Alphabet alphabet) {
  const char* needed = alphabet == Alphabet::kBytes ? "ByteLevel" : "Fuse";
  if (!json.is_object() || json.value("type", Json()) != needed) {
    return wanted("$.decoder", json, fmt::format("one of type \"{}\", which undoes the pre_tokenizer", needed));
  }
  return ok_status();
}

// Offsets are all that a ByteLevel post processor changes; others add tokens.
Status check_post_processor(const Json& json) {
  if (json.is_null() || (json.is_object() && json.value("type", Json()) == "ByteLevel")) return ok_status();
  return wanted("$.post_processor", json, "null or ByteLevel");
}

Result<std::vector<AddedToken>> read_added_tokens(const Json& json, int32_t id_limit) {
  std::vector<AddedToken> added;
  if (json.is_null()) return added;
  if (!json.is_array()) return wanted("$.added_tokens", json, "an array");
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string path = fmt::format("$.added_tokens[{}]", i);
    const Json& token = json[i];
    RETURN_IF_ERROR(
        only_keys(token, path, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      RETURN_IF_ERROR(must_be_neutral(token, path, key, false));
    AddedToken read;
    ASSIGN_OR_RETURN(read.text, read_string(token, path, "content"));
    if (read.text.empty()) return invalid(path + ".content is empty; a token needs text");
    ASSIGN_OR_RETURN(read.special, read_bool(token, path, "special", false));
    ASSIGN_OR_RETURN(read.id, read_id(token.contains("id") ? token["id"] : Json(), path + ".id", id_limit));
    added.push_back(std::move(read));
  }
  return added;
}

Status check_model_options(const Json& model) {
  RETURN_IF_ERROR(only_keys(model, "$.model",
                            {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                             "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  // Files of before 2021 name no type.
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "type", "BPE"));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "dropout", 0.0));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "unk_token", nullptr));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "continuing_subword_prefix", ""));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "end_of_word_suffix", ""));
  return must_be_neutral(model, "$.model", "byte_fallback", false);
}

// Puts `bytes` under `id`, which must be free.
Status place_token(TokenizerSpec& spec, int32_t id, std::string bytes, std::string_view name, const std::string& path) {
  if (static_cast<size_t>(id) >= spec.tokens.size()) spec.tokens.resize(id + 1);
  std::string& token = spec.tokens[id];
  if (!token.empty()) {
    std::string other;
    append_byte_alphabet(other, token);
    return invalid(
        fmt::format("{}: the id {} of '{}' is taken by '{}'; every token needs its own", path, id, name, other));
  }
  token = std::move(bytes);
  return ok_status();
}

Status read_vocab(const Json& vocab, int32_t id_limit, TokenizerSpec& spec) {
  const std::string path = "$.model.vocab";
  std::unordered_map<std::string_view, int32_t> added;
  for (const AddedToken& token : spec.added) {
    if (!added.emplace(token.text, token.id).second) {
      return invalid(fmt::format("$.added_tokens: '{}' is added twice", token.text));
    }
    RETURN_IF_ERROR(place_token(spec, token.id, token.text, token.text, "$.added_tokens"));
  }
  for (const auto& [name, value] : vocab.items()) {
    ASSIGN_OR_RETURN(const int32_t id, read_id(value, fmt::format("{}[\"{}\"]", path, name), id_limit));
    if (const auto found = added.find(name); found != added.end()) {
      if (found->second == id) continue;
      return invalid(fmt::format("{}[\"{}\"] is {}, but $.added_tokens gives it {}", path, name, id, found->second));
    }
    if (name.empty()) return invalid(path + " holds the empty token, which no text can produce");
    std::optional<std::string> bytes = name;
    if (spec.alphabet == Alphabet::kBytes) bytes = bytes_of_alphabet(name);
    if (!bytes) {
      return invalid(
          fmt::format("{}[\"{}\"] has characters outside of the byte alphabet; an ordinary token spells bytes, "
                      "a special one must stand in $.added_tokens too",
                      path, name));
    }
    RETURN_IF_ERROR(place_token(spec, id, std::move(*bytes), name, path));
  }
  return ok_status();
}

// A merge is "left right" or ["left", "right"].
Status read_merges(const Json& json, const Json& vocab, TokenizerSpec& spec) {
  if (!json.is_array()) return wanted("$.model.merges", json, "an array (empty where nothing merges)");
  spec.merges.reserve(json.size());
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(vocab.size());
  for (const auto& [name, id] : vocab.items()) ids.emplace(name, id.get<int32_t>());  // read_vocab has checked it
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& merge = json[i];
    std::array<std::string_view, 2> names;
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        return wanted(fmt::format("$.model.merges[{}]", i), merge, "two tokens and a space between");
      }
      names = {text.substr(0, space), text.substr(space + 1)};
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      names = {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
    } else {
      return wanted(fmt::format("$.model.merges[{}]", i), merge, "two tokens, as one string or an array");
    }
    std::array<int32_t, 2> pair;
    for (const size_t side : {0, 1}) {
      const auto found = ids.find(names[side]);
      if (found == ids.end()) {
        return invalid(fmt::format("$.model.merges[{}] is {} and names '{}', which is not in $.model.vocab", i,
                                   brief(merge), names[side]));
      }
      pair[side] = found->second;
    }
    spec.merges.emplace_back(pair[0], pair[1]);
  }
  return ok_status();
}

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view text) {
  ASSIGN_OR_RETURN(Json json, parse(text));
  RETURN_IF_ERROR(only_keys(json, "$",
                            {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                             "post_processor", "decoder", "model"}));
  for (const char* key : {"truncation", "padding", "normalizer"})
    RETURN_IF_ERROR(must_be_neutral(json, "$", key, nullptr));
  for (const char* key : {"pre_tokenizer", "decoder", "model"}) {
    if (!json.contains(key)) return invalid(fmt::format("$.{} is missing; is this a tokenizer.json?", key));
  }
  const Json& model = json["model"];
  RETURN_IF_ERROR(check_model_options(model));
  const Json& vocab = model.contains("vocab") ? model["vocab"] : Json();
  if (!vocab.is_object() || vocab.empty()) return wanted("$.model.vocab", vocab, "an object of tokens and their ids");

  TokenizerSpec spec;
  ASSIGN_OR_RETURN(const PreTokenizer pre_tokenizer, read_pre_tokenizer(json["pre_tokenizer"], "$.pre_tokenizer"));
  spec.alphabet = pre_tokenizer.alphabet;
  spec.pattern = pre_tokenizer.pattern;
  RETURN_IF_ERROR(check_decoder(json["decoder"], spec.alphabet));
  RETURN_IF_ERROR(check_post_processor(json.value("post_processor", Json())));
  ASSIGN_OR_RETURN(spec.ignore_merges, read_bool(model, "$.model", "ignore_merges", false));
  // Gaps between ids are real (cl100k has some), but memory must not follow one number in a file.
  const Json added = json.value("added_tokens", Json());
  const int32_t id_limit = static_cast<int32_t>(std::min<size_t>(2 * (vocab.size() + added.size()) + 1024, 1 << 30));
  ASSIGN_OR_RETURN(spec.added, read_added_tokens(added, id_limit));
  RETURN_IF_ERROR(read_vocab(vocab, id_limit, spec));
  RETURN_IF_ERROR(read_merges(model.value("merges", Json()), vocab, spec));
  return Tokenizer::create(std::move(spec));
}

}  // namespace colossus
