#include "text/tokenizer_convert.h"

#include <fmt/format.h>

namespace colossus {

namespace {

ReplaceText replace_literal(std::string_view what, std::string_view by) {
  return {.literal = std::string(what), .content = std::string(by)};
}

Result<ReplaceText> replace_regex(std::string_view what, std::string_view by) {
  ReplaceText replace{.content = std::string(by)};
  ASSIGN_OR_RETURN(replace.regex, Regex::compile(what));
  return replace;
}

// The steps that SentencePiece's normalizer is made of.
Status spell_out_normalizer(const SentencePieceNormalizer& from, TokenizerSpec& spec) {
  if (from.whitespace_as_suffix) return invalid("blanks behind words (treat_whitespace_as_suffix) have no steps");
  if (!from.escape_whitespaces) return invalid("blanks that stay blanks (escape_whitespaces) have no steps");
  if (from.map != nullptr && !from.map->empty()) spec.normalizer.emplace_back(MapCharacters{from.map});
  if (from.remove_extra_whitespaces) {
    ASSIGN_OR_RETURN(ReplaceText ends, replace_regex(R"(\A +| +\z)", ""));
    ASSIGN_OR_RETURN(ReplaceText runs, replace_regex(" {2,}", " "));
    spec.normalizer.emplace_back(std::move(ends));
    spec.normalizer.emplace_back(std::move(runs));
  }
  if (from.add_dummy_prefix) spec.normalizer.emplace_back(PrependText{std::string(kBlank)});
  spec.normalizer.emplace_back(replace_literal(" ", kBlank));
  return ok_status();
}

}  // namespace

Result<PortableTokenizer> portable_json(const Tokenizer& tokenizer) {
  const TokenizerSpec& from = tokenizer.spec();
  PortableTokenizer made;
  if (from.sentencepiece.empty() && from.merge_ranks.empty()) {
    made.json = tokenizer.to_json();
    return made;
  }
  TokenizerSpec spec = from;
  spec.sentencepiece.clear();
  if (!spec.merge_ranks.empty()) {
    spec.merge_ranks.clear();
    made.differences.emplace_back("merges that were equal in rank have an order now, not the leftmost first");
  }
  if (!from.sentencepiece.empty()) {
    spec.normalizer.clear();
    spec.decoder.clear();
    RETURN_IF_ERROR(spell_out_normalizer(std::get<SentencePieceNormalizer>(from.normalizer.at(0)), spec));
    const auto& decoder = std::get<SentencePieceDecoder>(from.decoder.at(0));
    spec.decoder.emplace_back(replace_literal(kBlank, " "));
    spec.decoder.emplace_back(ByteFallbackDecoder{});
    spec.decoder.emplace_back(FuseDecoder{});
    if (decoder.strip_first) spec.decoder.emplace_back(StripDecoder{.content = " ", .start = 1});
    // Unknown characters decode to the token's text instead of SentencePiece's own sign.
    if (spec.unknown) spec.added.push_back({.id = *spec.unknown, .text = spec.tokens[*spec.unknown]});
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      const auto& kept = std::get<SentencePieceNormalizer>(from.normalizer.at(0)).kept;
      const auto whole = kept ? kept->longest_prefix(spec.tokens[id], 0) : std::nullopt;
      if (!whole || whole->length != spec.tokens[id].size()) continue;
      spec.added.push_back({.id = static_cast<int32_t>(id), .text = spec.tokens[id], .special = false});
    }
    if (spec.added.size() > from.added.size() + 1) {
      made.differences.emplace_back("user-defined pieces are added tokens now: text between them is normalized apart");
    }
    spec.whole.clear();
    if (spec.unigram) {
      spec.unigram->single_precision = false;
      made.differences.emplace_back("scores are added as doubles, not floats, which decides near ties");
    }
  }
  ASSIGN_OR_RETURN(const Tokenizer converted, Tokenizer::create(std::move(spec)));
  made.json = converted.to_json();
  return made;
}

}  // namespace colossus
