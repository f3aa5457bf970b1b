// tokenizer.json, written: what tokenizer_json.cc reads, in the layout other programs know.
#include <fmt/format.h>

#include <cmath>

#include "base/base64.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace colossus {

namespace {

std::string model_options(const TokenizerSpec& spec) {
  std::string unknown = "null";
  if (spec.unknown) {
    unknown.clear();
    append_json_string(unknown, spec.tokens[*spec.unknown]);
  }
  return fmt::format(R"("unk_token": {}, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    "fuse_unk": {}, "byte_fallback": {}, "ignore_merges": {},)",
                     unknown, spec.fuse_unknown, spec.byte_fallback, spec.ignore_merges);
}

// A token as its vocabulary spells it.
std::string name_of(const TokenizerSpec& spec, const std::vector<bool>& added, int32_t id) {
  if (spec.alphabet == Alphabet::kCharacters || added[id]) return spec.tokens[id];
  std::string name;
  append_byte_alphabet(name, spec.tokens[id]);
  return name;
}

void append_merges(std::string& out, const TokenizerSpec& spec, const std::vector<bool>& added) {
  const bool by_bytes = spec.alphabet == Alphabet::kBytes;
  const char* separator = "\n";
  for (const auto& [left, right] : spec.merges) {
    out += separator;
    out += "      ";
    const std::string left_name = name_of(spec, added, left);
    const std::string right_name = name_of(spec, added, right);
    // A merge of characters may hold a space, so only the form with two strings is safe there.
    if (!by_bytes) out += '[';
    append_json_string(out, by_bytes ? left_name + " " + right_name : left_name);
    if (!by_bytes) {
      out += ", ";
      append_json_string(out, right_name);
      out += ']';
    }
    separator = ",\n";
  }
}

void append_bpe(std::string& out, const TokenizerSpec& spec, const std::vector<bool>& added) {
  out += fmt::format("    \"type\": \"BPE\", \"dropout\": null, {}\n    \"vocab\": {{", model_options(spec));
  const char* separator = "\n";
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    if (spec.tokens[id].empty()) continue;
    out += separator;
    out += "      ";
    append_json_string(out, name_of(spec, added, id));
    out += fmt::format(": {}", id);
    separator = ",\n";
  }
  out += "\n    },\n    \"merges\": [";
  append_merges(out, spec, added);
  out += "\n    ]";
  if (!spec.merge_ranks.empty()) {
    out += fmt::format(",\n    \"merge_ranks\": [{}]", fmt::join(spec.merge_ranks, ", "));
  }
}

void append_unigram(std::string& out, const TokenizerSpec& spec) {
  out += fmt::format("    \"type\": \"Unigram\", \"unk_id\": {}, \"byte_fallback\": {},\n    \"vocab\": [",
                     spec.unknown ? std::to_string(*spec.unknown) : "null", spec.byte_fallback);
  const char* separator = "\n";
  for (size_t id = 0; id < spec.unigram->scores.size(); ++id) {
    out += separator;
    out += "      [";
    append_json_string(out, spec.tokens[id]);
    const double score = spec.unigram->scores[id];
    out += fmt::format(", {}]", std::isnan(score) ? 0.0 : score);
    separator = ",\n";
  }
  out += "\n    ]";
}

}  // namespace

std::string Tokenizer::to_json() const {
  const TokenizerSpec& spec = this->spec();
  const auto flag = [](bool on) { return on ? "true" : "false"; };
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [";
  std::vector<bool> added(spec.tokens.size());
  const bool whole_file = !spec.sentencepiece.empty();
  const char* separator = "\n";
  for (const AddedToken& token : spec.added) {
    if (whole_file) break;  // they are in the model
    added[token.id] = true;
    out += fmt::format("{}    {{\"id\": {}, \"content\": ", separator, token.id);
    append_json_string(out, token.text);
    out += fmt::format(", \"single_word\": {}, \"lstrip\": {}, \"rstrip\": {}, \"normalized\": {}, \"special\": {}}}",
                       flag(token.single_word), flag(token.lstrip), flag(token.rstrip), flag(token.normalized),
                       flag(token.special));
    separator = ",\n";
  }
  out += fmt::format("\n  ],\n  \"normalizer\": {},\n  \"pre_tokenizer\": {},\n  \"post_processor\": {},\n",
                     whole_file ? "null" : normalizer_json(spec), whole_file ? "null" : pre_tokenizer_json(spec),
                     post_processor_json(spec));
  out += fmt::format("  \"decoder\": {},\n  \"model\": {{\n", whole_file ? "null" : decoder_json(spec));
  if (whole_file) {
    out += fmt::format("    \"type\": \"SentencePiece\",\n    \"file\": \"{}\"", encode_base64(spec.sentencepiece));
  } else if (spec.unigram) {
    append_unigram(out, spec);
  } else {
    append_bpe(out, spec, added);
  }
  out += "\n  }\n}\n";
  return out;
}

}  // namespace colossus
