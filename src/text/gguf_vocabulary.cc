#include "text/gguf_vocabulary.h"

#include <fmt/format.h>

#include <array>
#include <unordered_map>

#include "text/byte_alphabet.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace colossus {

namespace {

struct KnownSplit {
  std::string_view name;
  SplitPattern pattern;
  bool ignore_merges = false;
};

constexpr std::array<KnownSplit, 19> kKnownSplits = {{
    {"gpt-2", SplitPattern::kGpt2},
    {"gpt2", SplitPattern::kGpt2},
    {"default", SplitPattern::kGpt2},
    {"phi-2", SplitPattern::kGpt2},
    {"mpt", SplitPattern::kGpt2},
    {"olmo", SplitPattern::kGpt2},
    {"jais", SplitPattern::kGpt2},
    {"trillion", SplitPattern::kGpt2},
    {"llama-bpe", SplitPattern::kCl100k, true},
    {"llama3", SplitPattern::kCl100k, true},
    {"llama-v3", SplitPattern::kCl100k, true},
    {"dbrx", SplitPattern::kCl100k},
    {"smaug-bpe", SplitPattern::kCl100k},
    {"chatglm-bpe", SplitPattern::kCl100k},
    {"qwen2", SplitPattern::kQwen2},
    {"stablelm2", SplitPattern::kQwen2},
    {"megrez", SplitPattern::kQwen2},
    {"gpt-4o", SplitPattern::kO200k},
    {"llama4", SplitPattern::kO200k},
}};

Result<PieceType> type_of(const GgufVocabulary& vocabulary, size_t id) {
  if (vocabulary.types.empty()) return PieceType::kNormal;
  const int32_t type = vocabulary.types[id];
  if (type < 1 || type > 6) {
    return invalid(fmt::format("tokenizer.ggml.token_type[{}] is {}; wanted 1 to 6", id, type));
  }
  return static_cast<PieceType>(type);
}

Result<std::vector<ScoredPiece>> pieces_of(const GgufVocabulary& vocabulary) {
  std::vector<ScoredPiece> pieces(vocabulary.tokens.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    ASSIGN_OR_RETURN(pieces[id].type, type_of(vocabulary, id));
    pieces[id].text = vocabulary.tokens[id];
    pieces[id].score = vocabulary.scores[id];
  }
  return pieces;
}

Result<TokenizerSpec> from_pieces(const GgufVocabulary& vocabulary, bool unigram) {
  if (vocabulary.scores.empty()) {
    return invalid(fmt::format("tokenizer.ggml.scores is missing; \"{}\" needs it", vocabulary.model));
  }
  ASSIGN_OR_RETURN(std::vector<ScoredPiece> pieces, pieces_of(vocabulary));
  if (vocabulary.unknown_id && *vocabulary.unknown_id >= 0 &&
      static_cast<size_t>(*vocabulary.unknown_id) < pieces.size()) {
    for (ScoredPiece& piece : pieces) {
      if (piece.type == PieceType::kUnknown) piece.type = PieceType::kControl;
    }
    pieces[static_cast<size_t>(*vocabulary.unknown_id)].type = PieceType::kUnknown;
  }
  // By way of the file that it once came from.
  return spec_from_sentencepiece(write_sentencepiece({
      .pieces = std::move(pieces),
      .type = static_cast<uint64_t>(unigram ? SentencePieceModel::Type::kUnigram : SentencePieceModel::Type::kBpe),
      .byte_fallback = true,
      .charsmap = vocabulary.precompiled_charsmap,
      .add_dummy_prefix = vocabulary.add_space_prefix.value_or(true),
      .remove_extra_whitespaces = vocabulary.remove_extra_whitespaces.value_or(unigram),
  }));
}

Status read_merges(const GgufVocabulary& vocabulary, TokenizerSpec& spec) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    ids.emplace(vocabulary.tokens[id], static_cast<int32_t>(id));
  }
  for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const std::string_view merge = vocabulary.merges[i];
    const size_t space = merge.find(' ', 1);
    const auto left = ids.find(merge.substr(0, space));
    const auto right = space == std::string_view::npos ? ids.end() : ids.find(merge.substr(space + 1));
    if (left == ids.end() || right == ids.end()) {
      return invalid(fmt::format("tokenizer.ggml.merges[{}] is '{}'; wanted two tokens and a blank between", i, merge));
    }
    spec.merges.emplace_back(left->second, right->second);
  }
  return ok_status();
}

Result<TokenizerSpec> from_bytes(const GgufVocabulary& vocabulary) {
  TokenizerSpec spec;
  const std::string_view pre = vocabulary.pre.empty() ? "default" : std::string_view(vocabulary.pre);
  const KnownSplit* known = nullptr;
  std::string names;
  for (const KnownSplit& split : kKnownSplits) {
    if (split.name == pre) known = &split;
    names += fmt::format(" {}", split.name);
  }
  if (known == nullptr) return invalid(fmt::format("tokenizer.ggml.pre is \"{}\"; known are{}", pre, names));
  spec.pattern = known->pattern;
  spec.ignore_merges = known->ignore_merges;
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    ASSIGN_OR_RETURN(const PieceType type, type_of(vocabulary, id));
    const bool added = type == PieceType::kControl || type == PieceType::kUserDefined || type == PieceType::kUnknown;
    if (added) {
      spec.added.push_back({.id = static_cast<int32_t>(id), .text = text, .special = type != PieceType::kUserDefined});
      spec.tokens.push_back(text);
      continue;
    }
    if (type == PieceType::kUnused) {  // fills the vocabulary up; no text becomes it
      spec.tokens.emplace_back();
      continue;
    }
    auto bytes = bytes_of_alphabet(text);
    if (!bytes || text.empty()) {
      return invalid(fmt::format("tokenizer.ggml.tokens[{}] is '{}', which does not spell bytes", id, text));
    }
    spec.tokens.push_back(*std::move(bytes));
  }
  RETURN_IF_ERROR(read_merges(vocabulary, spec));
  return spec;
}

}  // namespace

Result<Tokenizer> tokenizer_from_gguf(const GgufVocabulary& vocabulary) {
  const size_t num_tokens = vocabulary.tokens.size();
  if (num_tokens == 0 || num_tokens > (size_t{1} << 30)) {
    return invalid(fmt::format("tokenizer.ggml.tokens has {} tokens", num_tokens));
  }
  if (!vocabulary.scores.empty() && vocabulary.scores.size() != num_tokens) {
    return invalid(
        fmt::format("tokenizer.ggml.scores has {} values for {} tokens", vocabulary.scores.size(), num_tokens));
  }
  if (!vocabulary.types.empty() && vocabulary.types.size() != num_tokens) {
    return invalid(
        fmt::format("tokenizer.ggml.token_type has {} values for {} tokens", vocabulary.types.size(), num_tokens));
  }
  // Special tokens are taken as they are, and must be text that tokenizer.json can hold.
  for (size_t id = 0; id < num_tokens; ++id)
    if (find_invalid_utf8(vocabulary.tokens[id]) != std::string_view::npos)
      return invalid(
          fmt::format("tokenizer.ggml.tokens[{}] is {}, not UTF-8", id, printable_bytes(vocabulary.tokens[id])));
  const bool by_bytes = vocabulary.model == "gpt2";
  const bool unigram = vocabulary.model == "t5";
  if (!by_bytes && !unigram && vocabulary.model != "llama") {
    return invalid(fmt::format("tokenizer.ggml.model is \"{}\"; supported are llama, gpt2 and t5", vocabulary.model));
  }
  ASSIGN_OR_RETURN(TokenizerSpec spec, by_bytes ? from_bytes(vocabulary) : from_pieces(vocabulary, unigram));
  const bool adds_bos = vocabulary.add_bos.value_or(vocabulary.model == "llama");
  const bool adds_eos = vocabulary.add_eos.value_or(unigram);
  if (adds_bos && vocabulary.bos_id) spec.prefix = {*vocabulary.bos_id};
  if (adds_eos && vocabulary.eos_id) spec.suffix = {*vocabulary.eos_id};
  return Tokenizer::create(std::move(spec));
}

}  // namespace colossus
