#include "text/detokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/tokenizer_spec.h"
#include "text/vocabulary.h"

namespace colossus {

namespace {

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
}

// Takes up to `most` of `content` from the front.
size_t strip_front(std::string& text, std::string_view content, int most) {
  size_t taken = 0;
  while (most-- > 0 && std::string_view(text).substr(taken).starts_with(content)) taken += content.size();
  text.erase(0, taken);
  return taken / content.size();
}

void strip_back(std::string& text, std::string_view content, int most) {
  while (most-- > 0 && text.ends_with(content)) text.resize(text.size() - content.size());
}

// What a run of steps makes of one token; until <0xHH> has become a byte, which no step touches any more.
struct TokenText {
  std::string text;
  bool is_byte = false;
};

Status apply(const ReplaceText& replace, TokenText& token) {
  if (!replace.regex) {
    replace_all(token.text, replace.literal, replace.content);
    return ok_status();
  }
  std::string made;
  size_t done = 0;
  RETURN_IF_ERROR(replace.regex->for_each_match(token.text, [&](size_t begin, size_t end) {
    made.append(token.text, done, begin - done).append(replace.content);
    done = end;
  }));
  made.append(token.text, done);
  token.text = std::move(made);
  return ok_status();
}

Status apply(const StripDecoder& strip, TokenText& token) {
  strip_front(token.text, strip.content, strip.start);
  strip_back(token.text, strip.content, strip.stop);
  return ok_status();
}

Status apply(const ByteFallbackDecoder&, TokenText& token) {
  if (const auto byte = byte_of_fallback(token.text)) token = {std::string(1, static_cast<char>(*byte)), true};
  return ok_status();
}

Status apply(const Metaspace& metaspace, TokenText& token) {
  replace_all(token.text, metaspace.replacement, " ");
  return ok_status();
}

Status apply(const auto&, TokenText&) { return ok_status(); }

Status misplaced(size_t index, std::string_view why) { return invalid(fmt::format("[{}]: {}", index, why)); }

}  // namespace

Result<Detokenizer> Detokenizer::create(const TokenizerSpec& spec) {
  Detokenizer made;
  bool fused = false;
  size_t num_per_token = 0;  // steps that see tokens one by one
  for (size_t i = 0; i < spec.decoder.size(); ++i) {
    const DecoderStep& step = spec.decoder[i];
    if (std::holds_alternative<FuseDecoder>(step)) {
      fused = true;
      continue;
    }
    if (!fused) {
      const bool starts = std::holds_alternative<Metaspace>(step) || std::holds_alternative<JoinWithBlanks>(step) ||
                          std::holds_alternative<SentencePieceDecoder>(step);
      if (starts && made.start_ != Start::kPlain)
        return misplaced(i, "one decoder of this kind is all that is supported");
      if (const auto* metaspace = std::get_if<Metaspace>(&step)) {
        if (i != 0) return misplaced(i, "Metaspace is supported as the first decoder");
        made.metaspace_ = *metaspace;
        if (metaspace->prepend != Metaspace::Prepend::kNever) made.start_ = Start::kMetaspace;
      }
      if (std::holds_alternative<JoinWithBlanks>(step)) made.start_ = Start::kJoin;
      if (const auto* sentencepiece = std::get_if<SentencePieceDecoder>(&step)) {
        made.sentencepiece_ = *sentencepiece;
        made.start_ = Start::kSentencePiece;
      }
      ++num_per_token;
      continue;
    }
    const auto* strip = std::get_if<StripDecoder>(&step);
    const bool nothing =
        std::holds_alternative<ByteLevelDecoder>(step) || (strip && strip->start == 0 && strip->stop == 0);
    if (nothing) continue;
    if (strip == nullptr || strip->stop != 0 || made.start_ != Start::kPlain) {
      return misplaced(i, "behind Fuse a Strip at the start is all that is supported");
    }
    made.strip_ = *strip;
    made.start_ = Start::kStrip;
  }

  made.bytes_.resize(spec.tokens.size());
  made.is_byte_.resize(spec.tokens.size());
  const bool has_first = made.start_ == Start::kMetaspace || made.start_ == Start::kSentencePiece;
  if (has_first) made.first_.resize(spec.tokens.size());
  const auto decode = [&](std::string text, TokenText& token) -> Status {
    token = {std::move(text)};
    for (size_t i = 0, seen = 0; seen < num_per_token; ++i) {
      ++seen;
      if (std::holds_alternative<FuseDecoder>(spec.decoder[i])) break;
      if (!token.is_byte) {
        RETURN_IF_ERROR(std::visit([&](const auto& step) { return apply(step, token); }, spec.decoder[i]));
      }
    }
    return ok_status();
  };
  TokenText token;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    std::string text = spec.tokens[id];
    if (made.start_ == Start::kSentencePiece) {
      const bool byte = spec.byte_fallback && byte_of_fallback(text).has_value();
      if (byte) RETURN_IF_ERROR(apply(ByteFallbackDecoder{}, token = {text}));
      if (!byte && static_cast<int32_t>(id) == spec.unknown) text = made.sentencepiece_.unknown;
      made.is_byte_[id] = byte;
      made.bytes_[id] = byte ? token.text : text;
      if (!byte) replace_all(made.bytes_[id], kBlank, " ");
      made.first_[id] = made.bytes_[id];
      if (!byte && made.sentencepiece_.strip_first && text.starts_with(kBlank)) made.first_[id].erase(0, 1);
      continue;
    }
    RETURN_IF_ERROR(decode(text, token));
    made.bytes_[id] = token.text;
    made.is_byte_[id] = token.is_byte;
    if (has_first) {
      replace_all(text, made.metaspace_.replacement, "");
      RETURN_IF_ERROR(decode(std::move(text), token));
      made.first_[id] = token.text;
    }
  }
  return made;
}

void Detokenizer::append(int32_t id, State& state, std::string& out) const {
  const size_t index = static_cast<size_t>(id);
  switch (start_) {
    case Start::kPlain: out += bytes_[index]; return;
    case Start::kJoin:
      if (!state.at_start) out += ' ';
      out += bytes_[index];
      state.at_start = false;
      return;
    case Start::kMetaspace:
      out += state.at_start ? first_[index] : bytes_[index];
      state.at_start = false;
      return;
    case Start::kStrip: {
      if (!state.at_start) {
        out += bytes_[index];
        return;
      }
      if (state.strip_left < 0) state.strip_left = strip_.start;
      std::string text = bytes_[index];
      state.strip_left -= static_cast<int>(strip_front(text, strip_.content, state.strip_left));
      state.at_start = text.empty() && state.strip_left > 0;
      out += text;
      return;
    }
    case Start::kSentencePiece: {
      const std::string& text = state.at_start ? first_[index] : bytes_[index];
      // What took the blank of the beginning ends it, unless all blanks are to go; so does anything written.
      const bool took_blank = state.at_start && text.size() != bytes_[index].size();
      if (!text.empty() || (took_blank && !sentencepiece_.strip_all)) state.at_start = false;
      out += text;
      return;
    }
  }
}

}  // namespace colossus
