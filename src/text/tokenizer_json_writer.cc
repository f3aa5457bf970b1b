// tokenizer.json, written: what tokenizer_json.cc reads, in the layout other programs know.
#include <fmt/format.h>

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace colossus {

namespace {

void append_quoted(std::string& out, std::string_view text) {
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

constexpr std::string_view kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": )";

std::string pre_tokenizer_json(const TokenizerSpec& spec) {
  if (spec.alphabet == Alphabet::kCharacters) return "null";
  if (spec.pattern == SplitPattern::kGpt2) return fmt::format("{}true}}", kByteLevel);
  if (spec.pattern == SplitPattern::kNone) return fmt::format("{}false}}", kByteLevel);
  std::string regex;
  append_quoted(regex, split_pattern_regex(spec.pattern));
  return fmt::format(R"({{"type": "Sequence", "pretokenizers": [
    {{"type": "Split", "pattern": {{"Regex": {}}}, "behavior": "Isolated", "invert": false}},
    {}false}}
  ]}})",
                     regex, kByteLevel);
}

}  // namespace

std::string Tokenizer::to_json() const {
  const bool by_bytes = spec_.alphabet == Alphabet::kBytes;
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [";
  std::vector<bool> added(spec_.tokens.size());
  const char* separator = "\n";
  for (const AddedToken& token : spec_.added) {
    added[token.id] = true;
    out += fmt::format("{}    {{\"id\": {}, \"content\": ", separator, token.id);
    append_quoted(out, token.text);
    out += R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": )";
    out += token.special ? "true}" : "false}";
    separator = ",\n";
  }
  out += fmt::format("\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {},\n  \"post_processor\": null,\n",
                     pre_tokenizer_json(spec_));
  out += fmt::format("  \"decoder\": {},\n", by_bytes ? fmt::format("{}true}}", kByteLevel) : R"({"type": "Fuse"})");
  out += R"(  "model": {
    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    "fuse_unk": false, "byte_fallback": false, "ignore_merges": )";
  out += spec_.ignore_merges ? "true,\n    \"vocab\": {" : "false,\n    \"vocab\": {";

  const auto name_of = [&](int32_t id) {
    if (!by_bytes || added[id]) return spec_.tokens[id];
    std::string name;
    append_byte_alphabet(name, spec_.tokens[id]);
    return name;
  };
  separator = "\n";
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (spec_.tokens[id].empty()) continue;
    out += separator;
    out += "      ";
    append_quoted(out, name_of(id));
    out += fmt::format(": {}", id);
    separator = ",\n";
  }
  out += "\n    },\n    \"merges\": [";
  separator = "\n";
  for (const auto& [left, right] : spec_.merges) {
    out += separator;
    out += "      ";
    // A merge of characters may hold a space, so only the form with two strings is safe there.
    if (!by_bytes) out += '[';
    append_quoted(out, by_bytes ? name_of(left) + " " + name_of(right) : name_of(left));
    if (!by_bytes) {
      out += ", ";
      append_quoted(out, name_of(right));
      out += ']';
    }
    separator = ",\n";
  }
  out += "\n    ]\n  }\n}\n";
  return out;
}

}  // namespace colossus
