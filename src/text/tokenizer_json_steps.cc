// The steps of tokenizer.json around the model, read.
#include <fmt/format.h>

#include <functional>
#include <memory>

#include "base/base64.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace colossus {

namespace {

// Calls `read` on a step, or on each of a "Sequence", in order and at any depth.
Status for_each_step(const Json& json, const std::string& path, const char* list_key,
                     const std::function<Status(const Json&, const std::string&, const std::string& type)>& read) {
  if (!json.is_object()) return wanted_json(path, json, "an object or null");
  ASSIGN_OR_RETURN(const std::string type, read_string(json, path, "type"));
  if (type != "Sequence") return read(json, path, type);
  RETURN_IF_ERROR(only_keys(json, path, {"type", list_key}));
  const Json& list = field_or_null(json, list_key);
  const std::string list_path = fmt::format("{}.{}", path, list_key);
  if (!list.is_array()) return wanted_json(list_path, list, "an array");
  for (size_t i = 0; i < list.size(); ++i) {
    RETURN_IF_ERROR(for_each_step(list[i], fmt::format("{}[{}]", list_path, i), list_key, read));
  }
  return ok_status();
}

// {"String": ..} or {"Regex": ..}
Status read_pattern(const Json& json, const std::string& path, std::string& literal, std::optional<Regex>& regex) {
  const bool is_regex = json.is_object() && json.contains("Regex");
  RETURN_IF_ERROR(only_keys(json, path, {is_regex ? "Regex" : "String"}));
  const char* key = is_regex ? "Regex" : "String";
  ASSIGN_OR_RETURN(literal, read_string(json, path, key));
  if (literal.empty()) return invalid(fmt::format("{}.{} is empty", path, key));
  if (!is_regex) return ok_status();
  auto compiled = Regex::compile(literal);
  if (!compiled.ok()) return invalid(fmt::format("{}.{}: {}", path, key, compiled.status().message()));
  regex = *std::move(compiled);
  literal.clear();
  return ok_status();
}

Result<SplitBehavior> read_behavior(const Json& json, const std::string& path, const char* absent) {
  std::string name = absent;
  if (json.contains("behavior")) {
    ASSIGN_OR_RETURN(name, read_string(json, path, "behavior"));
  }
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return wanted_json(path + ".behavior", name, "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

Result<SplitText> read_split(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "pattern", "behavior", "invert"}));
  SplitText split;
  ASSIGN_OR_RETURN(split.behavior, read_behavior(json, path, ""));
  ASSIGN_OR_RETURN(split.invert, read_bool(json, path, "invert", false));
  const Json& pattern = field_or_null(json, "pattern");
  if (pattern.is_object() && pattern.contains("Regex") && pattern["Regex"].is_string()) {
    split.known = split_pattern_of_regex(pattern["Regex"].get_ref<const std::string&>());
    if (split.known) return split;
  }
  RETURN_IF_ERROR(read_pattern(pattern, path + ".pattern", split.literal, split.regex));
  return split;
}

Result<ByteLevel> read_byte_level(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ByteLevel bytes;
  ASSIGN_OR_RETURN(bytes.add_prefix_space, read_bool(json, path, "add_prefix_space", true));
  ASSIGN_OR_RETURN(bytes.use_regex, read_bool(json, path, "use_regex", true));
  return bytes;
}

// The pattern, where the steps are no more than a known one and bytes.
std::optional<SplitPattern> known_pattern(const std::vector<PreTokenizerStep>& steps) {
  if (steps.empty() || steps.size() > 2) return std::nullopt;
  const auto* bytes = std::get_if<ByteLevel>(&steps.back());
  if (bytes == nullptr || bytes->add_prefix_space) return std::nullopt;
  if (steps.size() == 1) return bytes->use_regex ? SplitPattern::kGpt2 : SplitPattern::kNone;
  const auto* split = std::get_if<SplitText>(&steps[0]);
  if (split == nullptr || !split->known || bytes->use_regex) return std::nullopt;
  // The patterns match everything, so keeping only matches and isolating them are the same.
  const bool covers = (split->behavior == SplitBehavior::kIsolated && !split->invert) ||
                      (split->behavior == SplitBehavior::kRemoved && split->invert);
  return covers ? split->known : std::nullopt;
}

Result<int> read_count(const Json& json, const std::string& path, const char* key) {
  ASSIGN_OR_RETURN(const int32_t count, read_id(field_or_null(json, key), path + "." + key, 1 << 20));
  return count;
}

// Begin and end tokens of a template's single sequence.
Status read_template(const Json& json, const std::string& path, std::vector<int32_t>& prefix,
                     std::vector<int32_t>& suffix) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "single", "pair", "special_tokens"}));
  const Json& single = field_or_null(json, "single");
  if (!single.is_array()) return wanted_json(path + ".single", single, "an array");
  bool seen = false;
  for (size_t i = 0; i < single.size(); ++i) {
    const std::string item_path = fmt::format("{}.single[{}]", path, i);
    const Json& item = single[i];
    if (item.is_object() && item.contains("Sequence")) {
      if (seen) return wanted_json(item_path, item, "the text once");
      seen = true;
      continue;
    }
    const Json& special = item.is_object() ? field_or_null(item, "SpecialToken") : item;
    if (!special.is_object()) return wanted_json(item_path, item, "a Sequence or a SpecialToken");
    ASSIGN_OR_RETURN(const std::string name, read_string(special, item_path + ".SpecialToken", "id"));
    const std::string ids_path = fmt::format("{}.special_tokens[\"{}\"].ids", path, name);
    const Json& specials = field_or_null(json, "special_tokens");
    const Json none;
    // By the whole name, which may hold a zero byte.
    const Json& entry = specials.is_object() && specials.contains(name) ? specials.at(name) : none;
    const Json& ids = entry.is_object() ? field_or_null(entry, "ids") : entry;
    if (!ids.is_array()) return wanted_json(ids_path, ids, "an array of ids");
    for (const Json& value : ids) {
      ASSIGN_OR_RETURN(const int32_t id, read_id(value, ids_path, 1 << 30));
      (seen ? suffix : prefix).push_back(id);
    }
  }
  return seen ? ok_status() : invalid(path + ".single holds no Sequence");
}

// ["</s>", 2]
Result<int32_t> read_named_id(const Json& json, const std::string& path, const char* key) {
  const Json& pair = field_or_null(json, key);
  if (!pair.is_array() || pair.size() != 2) return wanted_json(path + "." + key, pair, "[token, id]");
  return read_id(pair[1], path + "." + key, 1 << 30);
}

}  // namespace

Result<ReplaceText> read_replace(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(only_keys(json, path, {"type", "pattern", "content"}));
  ReplaceText replace;
  RETURN_IF_ERROR(read_pattern(field_or_null(json, "pattern"), path + ".pattern", replace.literal, replace.regex));
  ASSIGN_OR_RETURN(replace.content, read_string(json, path, "content"));
  return replace;
}

Result<Metaspace> read_metaspace(const Json& json, const std::string& path) {
  RETURN_IF_ERROR(
      only_keys(json, path, {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"}));
  Metaspace metaspace;
  ASSIGN_OR_RETURN(metaspace.replacement, read_string(json, path, "replacement"));
  if (metaspace.replacement.empty() || decode_utf8(metaspace.replacement).num_bytes != metaspace.replacement.size()) {
    return wanted_json(path + ".replacement", metaspace.replacement, "one character");
  }
  ASSIGN_OR_RETURN(metaspace.split, read_bool(json, path, "split", true));
  // Older files say add_prefix_space instead.
  ASSIGN_OR_RETURN(const bool prefix, read_bool(json, path, "add_prefix_space", true));
  std::string scheme = prefix ? "always" : "never";
  if (json.contains("prepend_scheme")) {
    ASSIGN_OR_RETURN(scheme, read_string(json, path, "prepend_scheme"));
    if (!prefix && scheme != "never") {
      return wanted_json(path + ".prepend_scheme", scheme, "\"never\", as add_prefix_space is false");
    }
  }
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return wanted_json(path + ".prepend_scheme", scheme, "always, first or never");
  }
  metaspace.prepend = scheme == "always"  ? Metaspace::Prepend::kAlways
                      : scheme == "first" ? Metaspace::Prepend::kFirst
                                          : Metaspace::Prepend::kNever;
  return metaspace;
}

Status read_normalizer(const Json& json, const std::string& path, TokenizerSpec& spec) {
  if (json.is_null()) return ok_status();
  const auto read = [&](const Json& step, const std::string& at, const std::string& type) -> Status {
    const auto put = [&](NormalizerStep made, std::initializer_list<std::string_view> keys) {
      spec.normalizer.push_back(std::move(made));
      return only_keys(step, at, keys);
    };
    if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
      return put(UnicodeForm{.compatibility = type[2] == 'K', .compose = type.back() == 'C'}, {"type"});
    }
    if (type == "Lowercase") return put(Lowercase{}, {"type"});
    if (type == "StripAccents") return put(StripAccents{}, {"type"});
    if (type == "Strip") {
      StripSpace strip;
      ASSIGN_OR_RETURN(strip.left, read_bool(step, at, "strip_left", true));
      ASSIGN_OR_RETURN(strip.right, read_bool(step, at, "strip_right", true));
      return put(strip, {"type", "strip_left", "strip_right"});
    }
    if (type == "Prepend") {
      ASSIGN_OR_RETURN(std::string text, read_string(step, at, "prepend"));
      return put(PrependText{std::move(text)}, {"type", "prepend"});
    }
    if (type == "Replace") {
      ASSIGN_OR_RETURN(ReplaceText replace, read_replace(step, at));
      return put(std::move(replace), {"type", "pattern", "content"});
    }
    if (type == "Precompiled") {
      ASSIGN_OR_RETURN(const std::string text, read_string(step, at, "precompiled_charsmap"));
      const auto blob = decode_base64(text);
      if (!blob) return invalid(at + ".precompiled_charsmap is not base64");
      auto map = Charsmap::read(*blob);
      if (!map.ok()) return invalid(fmt::format("{}.precompiled_charsmap: {}", at, map.status().message()));
      return put(MapCharacters{std::make_shared<Charsmap>(*std::move(map))}, {"type", "precompiled_charsmap"});
    }
    return wanted_json(at + ".type", type,
                       "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Precompiled or "
                       "Sequence");
  };
  return for_each_step(json, path, "normalizers", read);
}

Status read_pre_tokenizer(const Json& json, const std::string& path, TokenizerSpec& spec) {
  spec.alphabet = Alphabet::kCharacters;
  spec.pattern = SplitPattern::kNone;
  if (json.is_null()) return ok_status();
  const auto read = [&](const Json& step, const std::string& at, const std::string& type) -> Status {
    if (type == "ByteLevel") {
      if (spec.alphabet == Alphabet::kBytes) return invalid(at + " is the second ByteLevel");
      spec.alphabet = Alphabet::kBytes;
      ASSIGN_OR_RETURN(const ByteLevel bytes, read_byte_level(step, at));
      spec.pre_tokenizer.emplace_back(bytes);
    } else if (type == "Split") {
      ASSIGN_OR_RETURN(SplitText split, read_split(step, at));
      spec.pre_tokenizer.emplace_back(std::move(split));
    } else if (type == "Metaspace") {
      if (spec.alphabet == Alphabet::kBytes) return invalid(at + ": Metaspace behind ByteLevel is not supported");
      ASSIGN_OR_RETURN(Metaspace metaspace, read_metaspace(step, at));
      spec.pre_tokenizer.emplace_back(std::move(metaspace));
    } else if (type == "Digits") {
      RETURN_IF_ERROR(only_keys(step, at, {"type", "individual_digits"}));
      ASSIGN_OR_RETURN(const bool individual, read_bool(step, at, "individual_digits", false));
      spec.pre_tokenizer.emplace_back(Digits{individual});
    } else if (type == "Punctuation") {
      RETURN_IF_ERROR(only_keys(step, at, {"type", "behavior"}));
      ASSIGN_OR_RETURN(const SplitBehavior behavior, read_behavior(step, at, "Isolated"));
      spec.pre_tokenizer.emplace_back(Punctuation{behavior});
    } else if (type == "Whitespace" || type == "WhitespaceSplit") {
      RETURN_IF_ERROR(only_keys(step, at, {"type"}));
      if (type == "Whitespace") {
        spec.pre_tokenizer.emplace_back(WordsAndRest{});
      } else {
        spec.pre_tokenizer.emplace_back(WhitespaceSplit{});
      }
    } else {
      return wanted_json(at + ".type", type,
                         "ByteLevel, Split, Metaspace, Digits, Whitespace, WhitespaceSplit, Punctuation or Sequence");
    }
    return ok_status();
  };
  RETURN_IF_ERROR(for_each_step(json, path, "pretokenizers", read));
  if (const auto pattern = known_pattern(spec.pre_tokenizer)) {
    spec.pattern = *pattern;
    spec.pre_tokenizer.clear();
  }
  return ok_status();
}

Status read_decoder(const Json& json, const std::string& path, TokenizerSpec& spec) {
  bool by_bytes = false;
  const auto read = [&](const Json& step, const std::string& at, const std::string& type) -> Status {
    if (type == "ByteLevel") {
      by_bytes = true;
      spec.decoder.emplace_back(ByteLevelDecoder{});
    } else if (type == "ByteFallback") {
      spec.decoder.emplace_back(ByteFallbackDecoder{});
    } else if (type == "Fuse") {
      spec.decoder.emplace_back(FuseDecoder{});
    } else if (type == "Metaspace") {
      ASSIGN_OR_RETURN(Metaspace metaspace, read_metaspace(step, at));
      spec.decoder.emplace_back(std::move(metaspace));
    } else if (type == "Replace") {
      ASSIGN_OR_RETURN(ReplaceText replace, read_replace(step, at));
      spec.decoder.emplace_back(std::move(replace));
    } else if (type == "Strip") {
      RETURN_IF_ERROR(only_keys(step, at, {"type", "content", "start", "stop"}));
      StripDecoder strip;
      ASSIGN_OR_RETURN(strip.content, read_string(step, at, "content"));
      ASSIGN_OR_RETURN(strip.start, read_count(step, at, "start"));
      ASSIGN_OR_RETURN(strip.stop, read_count(step, at, "stop"));
      if (strip.content.empty()) return invalid(at + ".content is empty; wanted one character");
      spec.decoder.emplace_back(std::move(strip));
    } else {
      return wanted_json(at + ".type", type, "ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip or Sequence");
    }
    return ok_status();
  };
  if (json.is_null() && spec.alphabet == Alphabet::kCharacters) {
    spec.decoder.emplace_back(JoinWithBlanks{});
    return ok_status();
  }
  if (json.is_object()) RETURN_IF_ERROR(for_each_step(json, path, "decoders", read));
  if (by_bytes != (spec.alphabet == Alphabet::kBytes) || (by_bytes && spec.decoder.size() != 1) || !json.is_object()) {
    return wanted_json(path, json,
                       spec.alphabet == Alphabet::kBytes
                           ? "one of type \"ByteLevel\", which undoes the pre_tokenizer"
                           : "none of type \"ByteLevel\", as the pre_tokenizer makes no bytes of the text");
  }
  const bool only_fuses = spec.decoder.size() == 1 && std::holds_alternative<FuseDecoder>(spec.decoder[0]);
  if (by_bytes || only_fuses) spec.decoder.clear();  // the tokens' bytes, one after the other
  return ok_status();
}

Status read_post_processor(const Json& json, const std::string& path, TokenizerSpec& spec) {
  if (json.is_null()) return ok_status();
  const auto read = [&](const Json& step, const std::string& at, const std::string& type) -> Status {
    if (type == "ByteLevel") return ok_status();  // changes offsets alone
    std::vector<int32_t> prefix, suffix;
    if (type == "TemplateProcessing") {
      RETURN_IF_ERROR(read_template(step, at, prefix, suffix));
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      RETURN_IF_ERROR(only_keys(step, at, {"type", "sep", "cls", "trim_offsets", "add_prefix_space"}));
      ASSIGN_OR_RETURN(const int32_t begin, read_named_id(step, at, "cls"));
      ASSIGN_OR_RETURN(const int32_t end, read_named_id(step, at, "sep"));
      prefix = {begin};
      suffix = {end};
    } else {
      return wanted_json(at + ".type", type,
                         "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing or Sequence");
    }
    spec.prefix.insert(spec.prefix.begin(), prefix.begin(), prefix.end());
    spec.suffix.insert(spec.suffix.end(), suffix.begin(), suffix.end());
    return ok_status();
  };
  return for_each_step(json, path, "processors", read);
}

}  // namespace colossus
