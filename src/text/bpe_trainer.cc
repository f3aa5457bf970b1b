#include "text/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/platform.h"
#include "text/bpe_merger.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace colossus {

namespace {

constexpr int kNumBytes = 256;
constexpr int kMaxVocabSize = 1 << 24;

Status check_special_tokens(const std::vector<std::string>& tokens) {
  std::set<std::string_view> seen;
  for (const std::string& token : tokens) {
    // A shorter one would be a byte's token, others could not be told from ordinary tokens in the file.
    const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7F; });
    if (token.size() < 2 || !plain) {
      return invalid(
          fmt::format("special token '{}': wanted 2 or more printable ASCII characters without spaces", token));
    }
    if (!seen.insert(token).second) return invalid(fmt::format("special token '{}' is named twice", token));
  }
  return ok_status();
}

void add_special_tokens(const std::vector<std::string>& tokens, TokenizerSpec& spec) {
  for (const std::string& token : tokens) {
    spec.added.push_back({static_cast<int32_t>(spec.tokens.size()), token, true});
    spec.tokens.push_back(token);
  }
}

Status check_options(const BpeTrainOptions& options) {
  RETURN_IF_ERROR(check_special_tokens(options.special_tokens));
  const size_t least = kNumBytes + options.special_tokens.size();
  if (options.vocab_size < static_cast<int64_t>(least) || options.vocab_size > kMaxVocabSize) {
    return invalid(fmt::format("vocabulary of {} tokens: wanted {} (256 bytes and {} special tokens) to {}",
                               options.vocab_size, least, options.special_tokens.size(), kMaxVocabSize));
  }
  return ok_status();
}

}  // namespace

Result<TrainedTokenizer> train_bpe(const BpeTrainOptions& options, DocumentSource documents,
                                   TrainProgressSink progress) {
  RETURN_IF_ERROR(check_options(options));
  const CountOptions count_options{.pattern = options.pattern,
                                   .special_tokens = options.special_tokens,
                                   .num_threads = options.num_threads > 0 ? options.num_threads : num_usable_cores(),
                                   .max_memory_bytes = options.max_memory_bytes};
  const auto report_reading = [&](int64_t bytes_read) { progress({TrainProgress::Phase::kReading, bytes_read, 0}); };
  ASSIGN_OR_RETURN(PieceCountResult counts, count_pieces(count_options, documents, report_reading));
  if (counts.num_bytes == 0) {
    return invalid(fmt::format("no text to train a tokenizer on: {} documents, all empty", counts.num_documents));
  }

  TokenizerSpec spec;
  spec.pattern = options.pattern;
  add_special_tokens(options.special_tokens, spec);
  std::array<int32_t, kNumBytes> byte_ids;
  for (const uint8_t byte : byte_alphabet_order()) {
    byte_ids[byte] = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.emplace_back(1, static_cast<char>(byte));
  }
  int64_t num_pieces = 0;
  for (const PieceCounts& shard : counts.shards) num_pieces += static_cast<int64_t>(shard.num_pieces());

  BpeMerger merger(counts.shards, byte_ids, spec.tokens, options.min_count);
  counts.shards.clear();
  const int64_t num_merges = options.vocab_size - static_cast<int64_t>(spec.tokens.size());
  while (static_cast<int64_t>(spec.merges.size()) < num_merges) {
    const auto merge = merger.merge_best();
    if (!merge) break;
    spec.merges.emplace_back(merge->left, merge->right);
    progress({TrainProgress::Phase::kMerging, static_cast<int64_t>(spec.merges.size()), num_merges});
  }
  spec.tokens = merger.tokens();
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::create(std::move(spec)));
  return TrainedTokenizer{std::move(tokenizer), counts.num_documents, counts.num_bytes, num_pieces,
                          counts.forgotten_up_to};
}

Result<TrainedTokenizer> train_characters(const std::vector<std::string>& special_tokens, DocumentSource documents,
                                          TrainProgressSink progress) {
  RETURN_IF_ERROR(check_special_tokens(special_tokens));
  const AddedTokenFinder finder([&] {
    TokenizerSpec specials;
    add_special_tokens(special_tokens, specials);
    return specials.added;
  }());
  std::vector<bool> seen(0x110000);
  int64_t num_documents = 0;
  int64_t num_bytes = 0;
  RETURN_IF_ERROR(documents([&](std::string_view text) {
    ++num_documents;
    for (size_t at = 0; at < text.size();) {
      const auto special = finder.find(text, at, true);
      for (const size_t end = special ? special->begin : text.size(); at < end;) {
        const Utf8Char c = decode_utf8(text.substr(at));
        if (c.code_point == kInvalidCodePoint) {
          return invalid(
              fmt::format("document {}, byte {}: 0x{:02X} is not UTF-8; a tokenizer of characters needs valid text, "
                          "one of bytes takes any",
                          num_documents - 1, at, static_cast<uint8_t>(text[at])));
        }
        seen[c.code_point] = true;
        at += c.num_bytes;
      }
      if (special) at = special->end;
    }
    num_bytes += static_cast<int64_t>(text.size());
    progress({TrainProgress::Phase::kReading, num_bytes, 0});
    return ok_status();
  }));
  if (num_bytes == 0)
    return invalid(fmt::format("no text to train a tokenizer on: {} documents, all empty", num_documents));

  TokenizerSpec spec;
  spec.alphabet = Alphabet::kCharacters;
  spec.pattern = SplitPattern::kNone;
  add_special_tokens(special_tokens, spec);
  for (uint32_t c = 0; c < seen.size(); ++c) {
    if (!seen[c]) continue;
    spec.tokens.emplace_back();
    append_utf8(spec.tokens.back(), c);
  }
  const int64_t num_characters = static_cast<int64_t>(spec.tokens.size() - special_tokens.size());
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::create(std::move(spec)));
  return TrainedTokenizer{std::move(tokenizer), num_documents, num_bytes, num_characters, 0};
}

}  // namespace colossus
