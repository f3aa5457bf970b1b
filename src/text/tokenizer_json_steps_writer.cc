// The steps of tokenizer.json around the model, written.
#include <fmt/format.h>

#include "base/base64.h"
#include "base/check.h"
#include "text/tokenizer_json.h"

namespace colossus {

namespace {

constexpr std::string_view kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": )";

std::string json_quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

const char* flag(bool on) { return on ? "true" : "false"; }

std::string pattern_json(const std::string& literal, const std::optional<Regex>& regex) {
  return regex ? fmt::format(R"({{"Regex": {}}})", json_quoted(regex->pattern()))
               : fmt::format(R"({{"String": {}}})", json_quoted(literal));
}

const char* behavior_name(SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved: return "Removed";
    case SplitBehavior::kIsolated: return "Isolated";
    case SplitBehavior::kMergedWithPrevious: return "MergedWithPrevious";
    case SplitBehavior::kMergedWithNext: return "MergedWithNext";
    case SplitBehavior::kContiguous: return "Contiguous";
  }
  return "";
}

// One overload per step of tokenizer.json.
std::string step_json(const UnicodeForm& form) {
  return fmt::format(R"({{"type": "NF{}{}"}})", form.compatibility ? "K" : "", form.compose ? "C" : "D");
}
std::string step_json(const Lowercase&) { return R"({"type": "Lowercase"})"; }
std::string step_json(const StripSpace& strip) {
  return fmt::format(R"({{"type": "Strip", "strip_left": {}, "strip_right": {}}})", flag(strip.left),
                     flag(strip.right));
}
std::string step_json(const StripAccents&) { return R"({"type": "StripAccents"})"; }
std::string step_json(const ReplaceText& replace) {
  return fmt::format(R"({{"type": "Replace", "pattern": {}, "content": {}}})",
                     pattern_json(replace.literal, replace.regex), json_quoted(replace.content));
}
std::string step_json(const PrependText& prepend) {
  return fmt::format(R"({{"type": "Prepend", "prepend": {}}})", json_quoted(prepend.text));
}
std::string step_json(const MapCharacters& mapping) {
  return fmt::format(R"({{"type": "Precompiled", "precompiled_charsmap": "{}"}})", encode_base64(mapping.map->blob()));
}
std::string step_json(const SentencePieceNormalizer&) {
  CHECK(false, "a SentencePiece model is written whole");
  return "";
}
std::string step_json(const SplitText& split) {
  const std::string pattern = split.known
                                  ? fmt::format(R"({{"Regex": {}}})", json_quoted(split_pattern_regex(*split.known)))
                                  : pattern_json(split.literal, split.regex);
  return fmt::format(R"({{"type": "Split", "pattern": {}, "behavior": "{}", "invert": {}}})", pattern,
                     behavior_name(split.behavior), flag(split.invert));
}
std::string step_json(const ByteLevel& bytes) {
  return fmt::format(R"({{"type": "ByteLevel", "add_prefix_space": {}, "trim_offsets": true, "use_regex": {}}})",
                     flag(bytes.add_prefix_space), flag(bytes.use_regex));
}
std::string step_json(const Metaspace& metaspace) {
  const char* scheme = metaspace.prepend == Metaspace::Prepend::kAlways  ? "always"
                       : metaspace.prepend == Metaspace::Prepend::kFirst ? "first"
                                                                         : "never";
  return fmt::format(R"({{"type": "Metaspace", "replacement": {}, "prepend_scheme": "{}", "split": {}}})",
                     json_quoted(metaspace.replacement), scheme, flag(metaspace.split));
}
std::string step_json(const Digits& digits) {
  return fmt::format(R"({{"type": "Digits", "individual_digits": {}}})", flag(digits.individual));
}
std::string step_json(const WhitespaceSplit&) { return R"({"type": "WhitespaceSplit"})"; }
std::string step_json(const WordsAndRest&) { return R"({"type": "Whitespace"})"; }
std::string step_json(const Punctuation& punctuation) {
  return fmt::format(R"({{"type": "Punctuation", "behavior": "{}"}})", behavior_name(punctuation.behavior));
}
std::string step_json(const ByteLevelDecoder&) { return fmt::format("{}true}}", kByteLevel); }
std::string step_json(const ByteFallbackDecoder&) { return R"({"type": "ByteFallback"})"; }
std::string step_json(const FuseDecoder&) { return R"({"type": "Fuse"})"; }
std::string step_json(const StripDecoder& strip) {
  return fmt::format(R"({{"type": "Strip", "content": {}, "start": {}, "stop": {}}})", json_quoted(strip.content),
                     strip.start, strip.stop);
}
std::string step_json(const JoinWithBlanks&) { return "null"; }
std::string step_json(const SentencePieceDecoder&) {
  CHECK(false, "a SentencePiece model is written whole");
  return "";
}

template <class Step>
std::string steps_json(const std::vector<Step>& steps, const char* list_key) {
  const auto write = [](const Step& step) {
    return std::visit([](const auto& kind) { return step_json(kind); }, step);
  };
  if (steps.size() == 1) return write(steps[0]);
  std::string out = fmt::format(R"({{"type": "Sequence", "{}": [)", list_key);
  const char* separator = "\n    ";
  for (const Step& step : steps) {
    out += separator + write(step);
    separator = ",\n    ";
  }
  return out + "\n  ]}";
}

// Items of a template that are tokens, and the tokens themselves.
void append_template_tokens(const TokenizerSpec& spec, const std::vector<int32_t>& ids, std::string& items,
                            std::string& tokens) {
  for (const int32_t id : ids) {
    const std::string name = json_quoted(spec.tokens[id]);
    items += fmt::format(R"({}{{"SpecialToken": {{"id": {}, "type_id": 0}}}})", items.empty() ? "" : ", ", name);
    const std::string entry = fmt::format(R"({}: {{"id": {}, "ids": [{}], "tokens": [{}]}})", name, name, id, name);
    if (tokens.find(entry) == std::string::npos) tokens += (tokens.empty() ? "" : ", ") + entry;
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<uint8_t>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<uint8_t>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string normalizer_json(const TokenizerSpec& spec) {
  return spec.normalizer.empty() ? "null" : steps_json(spec.normalizer, "normalizers");
}

std::string pre_tokenizer_json(const TokenizerSpec& spec) {
  if (!spec.pre_tokenizer.empty()) return steps_json(spec.pre_tokenizer, "pretokenizers");
  if (spec.alphabet == Alphabet::kCharacters) return "null";
  if (spec.pattern == SplitPattern::kGpt2) return fmt::format("{}true}}", kByteLevel);
  if (spec.pattern == SplitPattern::kNone) return fmt::format("{}false}}", kByteLevel);
  return fmt::format(R"({{"type": "Sequence", "pretokenizers": [
    {{"type": "Split", "pattern": {{"Regex": {}}}, "behavior": "Isolated", "invert": false}},
    {}false}}
  ]}})",
                     json_quoted(split_pattern_regex(spec.pattern)), kByteLevel);
}

std::string decoder_json(const TokenizerSpec& spec) {
  if (!spec.decoder.empty()) return steps_json(spec.decoder, "decoders");
  return spec.alphabet == Alphabet::kBytes ? fmt::format("{}true}}", kByteLevel) : R"({"type": "Fuse"})";
}

std::string post_processor_json(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return "null";
  std::string before, after, tokens;
  append_template_tokens(spec, spec.prefix, before, tokens);
  append_template_tokens(spec, spec.suffix, after, tokens);
  const std::string text = fmt::format(R"({}{{"Sequence": {{"id": "A", "type_id": 0}}}}{})",
                                       before.empty() ? "" : before + ", ", after.empty() ? "" : ", " + after);
  return fmt::format(R"({{"type": "TemplateProcessing",
    "single": [{}],
    "pair": [{}, {{"Sequence": {{"id": "B", "type_id": 1}}}}],
    "special_tokens": {{{}}}
  }})",
                     text, text, tokens);
}

}  // namespace colossus
