#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "text/utf8.h"

namespace colossus {

// Where tokens go. Spans are those of the text that encode() was given.
struct Tokenizer::Sink {
  std::vector<int32_t>& ids;
  std::vector<TextSpan>* spans = nullptr;
  std::vector<size_t> sizes = {};     // of the tokens of the piece at work
  std::vector<TextSpan> pieces = {};  // of the gap at work

  void put(int32_t id, TextSpan span) {
    ids.push_back(id);
    if (spans != nullptr) spans->push_back(span);
  }
};

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  Tokenizer tokenizer;
  tokenizer.spec_ = std::make_unique<TokenizerSpec>(std::move(spec));
  const TokenizerSpec& made = tokenizer.spec();
  ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::create(made));
  tokenizer.vocabulary_ = std::make_unique<Vocabulary>(std::move(vocabulary));
  const auto in_vocabulary = [&](int32_t id) {
    return id >= 0 && id < tokenizer.vocab_size() && !made.tokens[id].empty();
  };
  for (const auto* ids : {&made.whole, &made.prefix, &made.suffix}) {
    for (const int32_t id : *ids) {
      if (!in_vocabulary(id)) return invalid(fmt::format("id {} is named, but no token has it", id));
    }
  }
  if (made.unknown && !in_vocabulary(*made.unknown)) {
    return invalid(fmt::format("model.unk_token: no token has the id {}", *made.unknown));
  }
  ASSIGN_OR_RETURN(tokenizer.bpe_, BpeModel::create(made, *tokenizer.vocabulary_));
  if (made.unigram) {
    std::vector<double> scores = made.unigram->scores;
    scores.resize(made.tokens.size(), std::nan(""));
    for (size_t id = 0; id < scores.size(); ++id) {
      if (tokenizer.vocabulary_->is_special(static_cast<int32_t>(id))) scores[id] = std::nan("");
      if (!std::isnan(scores[id]) && made.tokens[id].size() > UnigramModel::kMaxPieceBytes) {
        return invalid(fmt::format("model.vocab[{}] has {} bytes; pieces of up to {} are supported", id,
                                   made.tokens[id].size(), UnigramModel::kMaxPieceBytes));
      }
    }
    tokenizer.unigram_.emplace(made.tokens, scores, made.unigram->unknown_score, made.unigram->single_precision);
  }
  if (!made.decoder.empty()) {
    ASSIGN_OR_RETURN(tokenizer.detokenizer_, Detokenizer::create(made));
  }
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    tokenizer.token_bytes_.add(tokenizer.detokenizer_ ? tokenizer.detokenizer_->bytes(id) : made.tokens[id]);
  }
  tokenizer.split_ = split_function(made.pattern);
  tokenizer.plain_ = made.normalizer.empty() && made.pre_tokenizer.empty() && !made.unigram;
  RETURN_IF_ERROR(tokenizer.index_added());
  return tokenizer;
}

Status Tokenizer::index_added() {
  std::vector<AddedToken> raw, normalized;
  std::vector<std::string> raw_texts, normalized_texts;
  for (const AddedToken& token : spec().added) {
    if (!token.normalized || spec().normalizer.empty()) {
      raw.push_back(token);
      raw_texts.push_back(token.text);
      continue;
    }
    AlignedText text(token.text, 0, false);
    RETURN_IF_ERROR(normalize(spec().normalizer, text));
    normalized.push_back(token);
    normalized_texts.emplace_back(text.text());
  }
  added_finder_ = AddedTokenFinder(raw, raw_texts);
  normalized_finder_ = AddedTokenFinder(normalized, normalized_texts);
  return ok_status();
}

Status Tokenizer::encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options) const {
  Sink sink{.ids = out};
  if (options.add_special) out.insert(out.end(), spec().prefix.begin(), spec().prefix.end());
  RETURN_IF_ERROR(encode_gaps(text, options, sink));
  if (options.add_special) out.insert(out.end(), spec().suffix.begin(), spec().suffix.end());
  return ok_status();
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(encode(text, ids, options));
  return ids;
}

Result<Encoding> Tokenizer::encode_with_spans(std::string_view text, EncodeOptions options) const {
  Encoding encoding;
  Sink sink{.ids = encoding.ids, .spans = &encoding.spans};
  if (options.add_special) {
    for (const int32_t id : spec().prefix) sink.put(id, {});
  }
  RETURN_IF_ERROR(encode_gaps(text, options, sink));
  if (options.add_special) {
    for (const int32_t id : spec().suffix) sink.put(id, {text.size(), text.size()});
  }
  return encoding;
}

Status Tokenizer::encode_gaps(std::string_view text, const EncodeOptions& options, Sink& sink) const {
  size_t begin = 0;
  while (begin < text.size()) {
    const auto found = added_finder_.find(text, begin, options.allow_special);
    const size_t end = found ? found->begin : text.size();
    if (begin < end) RETURN_IF_ERROR(encode_gap(text, begin, end, options, sink));
    if (!found) break;
    sink.put(found->id, {found->begin, found->end});
    begin = found->end;
  }
  return ok_status();
}

// Text between added tokens: normalized, and searched for those that are only seen then.
Status Tokenizer::encode_gap(std::string_view text, size_t begin, size_t end, const EncodeOptions& options,
                             Sink& sink) const {
  if (plain_ && sink.spans == nullptr) return encode_plain(text, begin, end, sink.ids);
  AlignedText gap(text.substr(begin, end - begin), begin, sink.spans != nullptr);
  RETURN_IF_ERROR(normalize(spec().normalizer, gap));
  if (normalized_finder_.empty()) return encode_normalized(std::move(gap), begin == 0, sink);
  const std::string_view normalized = gap.text();
  for (size_t at = 0; at < normalized.size();) {
    const auto found = normalized_finder_.find(normalized, at, options.allow_special);
    const size_t until = found ? found->begin : normalized.size();
    if (at < until) {
      AlignedText part = AlignedText::like(gap);
      part.copy(gap, at, until);
      RETURN_IF_ERROR(encode_normalized(std::move(part), begin == 0 && at == 0, sink));
    }
    if (!found) break;
    sink.put(found->id, gap.source_of(found->begin, found->end));
    at = found->end;
  }
  return ok_status();
}

Status Tokenizer::encode_normalized(AlignedText text, bool at_start, Sink& sink) const {
  if (spec().pre_tokenizer.empty()) {
    sink.pieces.clear();
    for_each_piece(unigram_ ? split_function(SplitPattern::kNone) : split_, text.text(), 0,
                   [&](size_t begin, size_t end) {
                     sink.pieces.push_back({begin, end});
                   });
  } else {
    RETURN_IF_ERROR(pre_tokenize(spec().pre_tokenizer, at_start, text, sink.pieces));
  }
  for (const TextSpan& piece : sink.pieces) {
    if (sink.spans == nullptr) {
      RETURN_IF_ERROR(encode_model(text.text(), piece.begin, piece.end, {sink.ids}));
      continue;
    }
    sink.sizes.clear();
    RETURN_IF_ERROR(encode_model(text.text(), piece.begin, piece.end, {sink.ids, &sink.sizes}));
    size_t at = piece.begin;
    for (const size_t size : sink.sizes) {
      sink.spans->push_back(text.source_of(at, at + size));
      at += size;
    }
  }
  return ok_status();
}

Status Tokenizer::encode_plain(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& ids) const {
  const std::string_view part = text.substr(0, end);  // a piece must not look beyond an added token
  std::array<size_t, BpeModel::kMostPieces> ends;
  while (begin < end) {
    const size_t num_pieces = split_(part, begin, ends);
    RETURN_IF_ERROR(bpe_->encode_pieces(part, begin, std::span(ends).first(num_pieces), ids));
    begin = ends[num_pieces - 1];
  }
  return ok_status();
}

Status Tokenizer::encode_model(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  return unigram_ ? encode_unigram(text, begin, end, out) : bpe_->encode(text.substr(0, end), begin, end, out);
}

Status Tokenizer::encode_unigram(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  std::vector<UnigramModel::Piece> pieces;
  unigram_->encode(text.substr(begin, end - begin), pieces);
  const auto put = [&](int32_t id, size_t size) {
    out.ids.push_back(id);
    if (out.sizes != nullptr) out.sizes->push_back(size);
  };
  const bool falls_back = spec().byte_fallback && vocabulary_->has_all_fallbacks();
  bool after_unknown = false;
  size_t at = begin;
  for (const UnigramModel::Piece& piece : pieces) {
    if (piece.id >= 0) {
      put(piece.id, piece.num_bytes);
    } else if (falls_back) {
      for (size_t i = 0; i < piece.num_bytes; ++i) put(vocabulary_->fallback_id(static_cast<uint8_t>(text[at + i])), 1);
    } else if (!spec().unknown) {
      return bpe_->unknown_symbol(text, at);
    } else if (after_unknown) {  // one for a run of them
      if (out.sizes != nullptr) out.sizes->back() += piece.num_bytes;
    } else {
      put(*spec().unknown, piece.num_bytes);
    }
    after_unknown = piece.id < 0;
    at += piece.num_bytes;
  }
  return ok_status();
}

void Tokenizer::append_token(int32_t id, Detokenizer::State& state, std::string& out) const {
  if (id < 0 || id >= vocab_size()) {
    out += kReplacementCharacter;
  } else if (detokenizer_) {
    detokenizer_->append(id, state, out);
  } else {
    out += token_bytes_.of(id);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids, DetokenizeOptions options) const {
  std::vector<int32_t> shown;
  if (options.skip_special) {
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(shown), [&](int32_t id) { return !is_special(id); });
    ids = shown;
  }
  std::string text;
  Detokenizer::State state;
  while (detokenizer_ && !ids.empty() && !detokenizer_->is_plain_from(state)) {
    append_token(ids.front(), state, text);
    ids = ids.subspan(1);
  }
  token_bytes_.append(ids, text);
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return id < 0 || id >= vocab_size() ? std::string_view() : token_bytes_.of(id);
}

std::optional<int32_t> Tokenizer::special(std::string_view text) const {
  for (const AddedToken& token : spec().added) {
    if (token.text == text) return token.id;
  }
  return std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const { return id >= 0 && id < vocab_size() && vocabulary_->is_special(id); }

std::optional<int32_t> Tokenizer::token_id(std::string_view bytes) const { return vocabulary_->find(bytes); }

bool Tokenizer::encodes_any_bytes() const {
  if (spec().alphabet == Alphabet::kBytes) return vocabulary_->has_all_bytes();
  return spec().byte_fallback && vocabulary_->has_all_fallbacks();
}

std::string TokenDecoder::push(int32_t id) {
  if (options_.skip_special && tokenizer_.is_special(id)) return "";
  std::string bytes;
  tokenizer_.append_token(id, state_, bytes);
  return utf8_.push(bytes);
}

std::string TokenDecoder::flush() {
  state_ = {};
  return utf8_.flush();
}

}  // namespace colossus
