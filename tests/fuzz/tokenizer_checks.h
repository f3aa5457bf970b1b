// What holds for every tokenizer, whatever file it came from.
#pragma once

#include <string>
#include <string_view>

#include "fuzz/fuzz.h"
#include "text/tokenizer.h"

namespace colossus {

inline bool is_exact(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (spec.alphabet != Alphabet::kBytes || spec.unigram || !spec.normalizer.empty() || !spec.decoder.empty())
    return false;
  for (const AddedToken& token : spec.added)
    if (token.lstrip || token.rstrip || token.normalized || token.text.empty()) return false;
  // Steps before the model may take bytes away or put some in.
  return spec.pre_tokenizer.empty() && tokenizer.encodes_any_bytes();
}

// Encoding ends; ids are of the vocabulary; spans are of the text; where nothing changes the text, decoding gives it
// back.
inline void check_encoding(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {false, true}) {
    const EncodeOptions options{.allow_special = special, .add_special = special};
    const auto encoding = tokenizer.encode_with_spans(text, options);
    if (!encoding.ok()) {
      CHECK(!is_exact(tokenizer), "a tokenizer of all bytes encodes everything");
      continue;
    }
    CHECK(encoding->ids.size() == encoding->spans.size());
    for (const int32_t id : encoding->ids) CHECK(id >= 0 && id < tokenizer.vocab_size());
    for (const TextSpan& span : encoding->spans) CHECK(span.begin <= span.end && span.end <= text.size());
    const auto ids = tokenizer.encode(text, options);
    CHECK(ids.ok() && *ids == encoding->ids, "both ways to encode agree");
    const std::string decoded = tokenizer.decode(*ids);
    TokenDecoder decoder(tokenizer);
    for (const int32_t id : *ids) static_cast<void>(decoder.push(id));
    static_cast<void>(decoder.flush());
    if (!special && is_exact(tokenizer)) CHECK(decoded == text, "decode(encode(text)) == text");
  }
}

inline constexpr std::string_view kSampleText =
    "Hello, world! \xF0\x9F\x99\x82 na\xC3\xAFve  caf\xC3\xA9 12345\n\n\tif (x<y) {}\xFF\xC0\x80 <|end|> e\xCC\x81 "
    "\xEA\xB0\x80";

}  // namespace colossus
