#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "convert/gguf_config.h"
#include "convert/gguf_tokenizer.h"
#include "text/byte_alphabet.h"
#include "text/chat.h"
#include "text/gguf_vocabulary.h"
#include "text/sentencepiece.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace colossus {
namespace {

int32_t number_of(PieceType type) { return static_cast<int32_t>(type); }

// llama.cpp's name for how text is cut before bytes merge; "": it has none.
std::string_view pre_of(const TokenizerSpec& spec) {
  switch (spec.pattern) {
    case SplitPattern::kGpt2: return spec.ignore_merges ? "" : "gpt-2";
    case SplitPattern::kCl100k: return spec.ignore_merges ? "llama-bpe" : "dbrx";
    case SplitPattern::kQwen2: return spec.ignore_merges ? "" : "qwen2";
    case SplitPattern::kO200k: return spec.ignore_merges ? "" : "gpt-4o";
    case SplitPattern::kNone: break;
  }
  return "";
}

std::string filler(size_t id) { return fmt::format("[PAD{}]", id); }

Result<GgufVocabulary> from_bytes(const TokenizerSpec& spec) {
  GgufVocabulary v{.model = "gpt2", .pre = std::string(pre_of(spec))};
  if (v.pre.empty() || !spec.pre_tokenizer.empty())
    return invalid("llama.cpp has no name for how it cuts text into words");
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    std::string spelled;
    append_byte_alphabet(spelled, spec.tokens[id]);
    v.types.push_back(number_of(spelled.empty() ? PieceType::kUnused : PieceType::kNormal));
    v.tokens.push_back(spelled.empty() ? filler(id) : spelled);
  }
  for (const AddedToken& token : spec.added) {
    const auto id = static_cast<size_t>(token.id);
    v.tokens[id] = token.text;
    v.types[id] = number_of(token.special ? PieceType::kControl : PieceType::kUserDefined);
  }
  for (const auto& [left, right] : spec.merges)
    v.merges.push_back(fmt::format("{} {}", v.tokens[static_cast<size_t>(left)], v.tokens[static_cast<size_t>(right)]));
  return v;
}

Result<GgufVocabulary> from_sentencepiece(const TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, read_sentencepiece(spec.sentencepiece));
  const bool unigram = model.type == static_cast<uint64_t>(SentencePieceModel::Type::kUnigram);
  GgufVocabulary v{.model = unigram ? "t5" : "llama", .pre = "default"};
  for (const ScoredPiece& piece : model.pieces) {
    v.tokens.push_back(piece.text);
    v.scores.push_back(piece.score);
    v.types.push_back(number_of(piece.type));
  }
  v.add_space_prefix = model.add_dummy_prefix;
  v.remove_extra_whitespaces = model.remove_extra_whitespaces;
  v.precompiled_charsmap = model.charsmap;
  v.unknown_id = spec.unknown;
  return v;
}

// Merges of characters with bytes for those that are no token, as tokenizer.json says SentencePiece's: a piece's score
// is the rank of the first merge that makes it.
Result<GgufVocabulary> from_characters(const TokenizerSpec& spec) {
  if (!spec.byte_fallback || !spec.unknown)
    return invalid("llama.cpp knows merges of characters only with an unknown token and tokens for all bytes");
  GgufVocabulary v{.model = "llama", .pre = "default"};
  v.tokens = spec.tokens;
  v.types.assign(v.tokens.size(), number_of(PieceType::kNormal));
  v.scores.assign(v.tokens.size(), 0);
  std::vector<bool> has_score(v.tokens.size());
  std::map<std::string_view, size_t> ids;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (byte_of_fallback(v.tokens[id])) v.types[id] = number_of(PieceType::kByte);
    if (v.tokens[id].empty()) {
      v.tokens[id] = filler(id);
      v.types[id] = number_of(PieceType::kControl);
    }
  }
  for (size_t id = 0; id < v.tokens.size(); ++id) ids.emplace(v.tokens[id], id);
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    const auto made = ids.find(spec.tokens[static_cast<size_t>(left)] + spec.tokens[static_cast<size_t>(right)]);
    if (made == ids.end() || has_score[made->second]) continue;
    has_score[made->second] = true;
    v.scores[made->second] = -static_cast<float>(rank);
  }
  for (const AddedToken& token : spec.added)
    v.types[static_cast<size_t>(token.id)] = number_of(token.special ? PieceType::kControl : PieceType::kUserDefined);
  v.types[static_cast<size_t>(*spec.unknown)] = number_of(PieceType::kUnknown);
  v.unknown_id = spec.unknown;
  v.remove_extra_whitespaces = false;
  return v;
}

constexpr std::string_view kProbe =
    "The quick brown fox (aged 12345) jumps over it's lazy dog.\n\n  \tÜnïcödé straße 你好世界 Привет مرحبا 🎉 x_1 = "
    "y+2;  end ";

bool encodes_as(const Tokenizer& tokenizer, const GgufVocabulary& vocabulary) {
  constexpr size_t kMostTried = 20000;
  const auto other = tokenizer_from_gguf(vocabulary);
  if (!other.ok()) return false;
  const size_t step = tokenizer.spec().tokens.size() / kMostTried + 1;
  std::vector<std::string> texts = {std::string(kProbe)};
  for (size_t id = 0; id < tokenizer.spec().tokens.size(); id += step)
    if (!tokenizer.is_special(static_cast<int32_t>(id))) {
      const int32_t ids[] = {static_cast<int32_t>(id)};
      std::string text = tokenizer.decode(ids);
      // Of bytes that are no text each kind makes something else.
      if (find_invalid_utf8(text) == std::string_view::npos) texts.push_back(std::move(text));
    }
  return std::ranges::all_of(texts, [&](const std::string& text) {
    const auto mine = tokenizer.encode(text), theirs = other->encode(text);
    return mine.ok() ? theirs.ok() && *mine == *theirs : true;
  });
}

// What SentencePiece's vocabularies have in a tokenizer.json: blanks become U+2581, one is put in front.
bool only_moves_blanks(const TokenizerSpec& spec) {
  const auto is_blank = [](const NormalizerStep& step) {
    const auto* replace = std::get_if<ReplaceText>(&step);
    return std::holds_alternative<PrependText>(step) || (replace && replace->literal == " ");
  };
  const auto is_word = [](const PreTokenizerStep& step) {
    return std::holds_alternative<Metaspace>(step) || std::holds_alternative<SplitText>(step);
  };
  return std::ranges::all_of(spec.normalizer, is_blank) && std::ranges::all_of(spec.pre_tokenizer, is_word);
}

// Qwen's normalizer (NFC), which llama.cpp goes without.
bool composes_alone(const TokenizerSpec& spec) {
  const auto* form = spec.normalizer.size() == 1 ? std::get_if<UnicodeForm>(&spec.normalizer[0]) : nullptr;
  return form && form->compose && !form->compatibility;
}

Result<GgufVocabulary> vocabulary_of(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (!spec.sentencepiece.empty()) return from_sentencepiece(spec);
  if (spec.unigram) return invalid("scores in a tokenizer.json have no place there; its .model file has");
  if (spec.alphabet == Alphabet::kBytes) {
    if (!spec.normalizer.empty() && !composes_alone(spec))
      return invalid("llama.cpp does not normalize text for merges of bytes");
    return from_bytes(spec);
  }
  if (!only_moves_blanks(spec)) return invalid("llama.cpp does not have the steps that its text goes through");
  ASSIGN_OR_RETURN(GgufVocabulary vocabulary, from_characters(spec));
  const auto letter = tokenizer.encode("a");
  vocabulary.add_space_prefix =
      letter.ok() && !letter->empty() && spec.tokens[static_cast<size_t>(letter->front())].starts_with(kBlank);
  return vocabulary;
}

// The first of the names that is a special token.
std::optional<int32_t> special_of(const Tokenizer& tokenizer, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const auto id = tokenizer.special(name)) return id;
  return std::nullopt;
}

// docs/formats.md, in Jinja.
constexpr std::string_view kOwnChatTemplate =
    "<|bos|>{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

void add_ids(const Tokenizer& tokenizer, const CarriedTokenizer& carried, const GgufVocabulary& vocabulary,
             GgufTokenizerKeys& out) {
  const TokenizerSpec& spec = tokenizer.spec();
  auto begin = spec.prefix.empty() ? carried.begin_id : std::optional(spec.prefix.front());
  if (!begin) begin = special_of(tokenizer, {"<|bos|>", "<s>", "<|begin_of_text|>", "<|endoftext|>"});
  auto end = carried.end_id;
  if (!end && !spec.suffix.empty()) end = spec.suffix.back();
  if (!end)
    end = special_of(tokenizer, {"<|end|>", "</s>", "<|eot_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>"});
  const auto num_tokens = static_cast<int64_t>(vocabulary.tokens.size());
  if (begin && *begin < num_tokens) out.metadata["tokenizer.ggml.bos_token_id"] = gguf_u32(*begin);
  if (end && *end < num_tokens)
    out.metadata["tokenizer.ggml.eos_token_id"] = gguf_u32(*end);
  else
    out.notes.emplace_back("no token ends a text; llama.cpp takes one of its own choice");
  if (vocabulary.unknown_id) out.metadata["tokenizer.ggml.unknown_token_id"] = gguf_u32(*vocabulary.unknown_id);
  out.metadata["tokenizer.ggml.add_bos_token"] = gguf_bool(!spec.prefix.empty());
  out.metadata["tokenizer.ggml.add_eos_token"] = gguf_bool(!spec.suffix.empty());
}

}  // namespace

GgufTokenizerKeys gguf_no_tokenizer() {
  GgufTokenizerKeys out;
  out.metadata["tokenizer.ggml.model"] = gguf_text("none");
  return out;
}

Result<GgufTokenizerKeys> gguf_tokenizer(const Tokenizer& tokenizer, int64_t vocab_size,
                                         const CarriedTokenizer& carried) {
  if (tokenizer.vocab_size() > vocab_size)
    return invalid(fmt::format("the tokenizer has {} tokens, and the model {}", tokenizer.vocab_size(), vocab_size));
  auto made = vocabulary_of(tokenizer);
  if (!made.ok()) {
    GgufTokenizerKeys out = gguf_no_tokenizer();
    out.notes.push_back(fmt::format("the tokenizer is left out: {}", made.status().message()));
    return out;
  }
  GgufVocabulary vocabulary = *std::move(made);
  GgufTokenizerKeys out;
  if (!encodes_as(tokenizer, vocabulary))
    out.notes.emplace_back("llama.cpp will cut some text into other tokens than this program");
  const bool merges_bytes = vocabulary.model == "gpt2";
  if (merges_bytes && !tokenizer.spec().normalizer.empty())
    out.notes.emplace_back("llama.cpp does not compose characters (NFC) before it cuts them into tokens");
  while (static_cast<int64_t>(vocabulary.tokens.size()) < vocab_size) {
    vocabulary.tokens.push_back(filler(vocabulary.tokens.size()));
    vocabulary.types.push_back(number_of(merges_bytes ? PieceType::kUnused : PieceType::kControl));
    if (!merges_bytes) vocabulary.scores.push_back(0);
  }
  out.metadata["tokenizer.ggml.model"] = gguf_text(vocabulary.model);
  out.metadata["tokenizer.ggml.pre"] = gguf_text(vocabulary.pre);
  add_ids(tokenizer, carried, vocabulary, out);
  if (vocabulary.add_space_prefix)
    out.metadata["tokenizer.ggml.add_space_prefix"] = gguf_bool(*vocabulary.add_space_prefix);
  if (vocabulary.remove_extra_whitespaces)
    out.metadata["tokenizer.ggml.remove_extra_whitespaces"] = gguf_bool(*vocabulary.remove_extra_whitespaces);
  if (!vocabulary.precompiled_charsmap.empty()) {
    if (vocabulary.model == "llama")
      out.notes.emplace_back("llama.cpp does not normalize text for this kind of tokenizer, which this model's does");
    out.lists["tokenizer.ggml.precompiled_charsmap"] = std::move(vocabulary.precompiled_charsmap);
  }
  std::string chat_template = carried.chat_template;
  if (chat_template.empty() && ChatFormat::create(tokenizer).ok()) chat_template = kOwnChatTemplate;
  if (!chat_template.empty()) out.metadata["tokenizer.chat_template"] = gguf_text(chat_template);
  out.lists["tokenizer.ggml.tokens"] = std::move(vocabulary.tokens);
  out.lists["tokenizer.ggml.token_type"] = std::move(vocabulary.types);
  if (merges_bytes)
    out.lists["tokenizer.ggml.merges"] = std::move(vocabulary.merges);
  else
    out.lists["tokenizer.ggml.scores"] = std::move(vocabulary.scores);
  return out;
}

}  // namespace colossus
