#include "text/bpe_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <span>

#include "base/check.h"
#include "text/piece_cache.h"
#include "text/utf8.h"

namespace colossus {

Result<BpeModel> BpeModel::create(const TokenizerSpec& spec, const Vocabulary& vocabulary) {
  static std::atomic<uint64_t> num_made = 0;
  BpeModel made(spec, vocabulary);
  made.serial_ = ++num_made;
  RETURN_IF_ERROR(made.index_merges());
  for (const int32_t id : spec.whole) made.whole_.insert(spec.tokens[id], id);
  const bool merges = !spec.merges.empty() || spec.ignore_merges;
  made.one_word_a_piece_ = merges && made.whole_.empty() && !made.blanks_begin_words_;
  return made;
}

Status BpeModel::index_merges() {
  const std::vector<std::string>& tokens = spec_->tokens;
  merges_ = MergeTable(spec_->merges.size());
  blanks_begin_words_ = spec_->alphabet == Alphabet::kCharacters && !spec_->ignore_merges && !spec_->merges.empty() &&
                        vocabulary_->find(kBlank).has_value();
  std::string merged;
  for (size_t i = 0; i < spec_->merges.size(); ++i) {
    const auto [left, right] = spec_->merges[i];
    for (const int32_t id : {left, right}) {
      if (id < 0 || static_cast<size_t>(id) >= tokens.size() || tokens[id].empty()) {
        return invalid(fmt::format("model.merges[{}] names id {}, which no token has", i, id));
      }
    }
    merged.assign(tokens[left]).append(tokens[right]);
    const auto found = vocabulary_->find(merged);
    if (!found) {
      return invalid(fmt::format("model.merges[{}] joins {} and {}, but model.vocab lacks {}; add it or drop the merge",
                                 i, printable_bytes(tokens[left]), printable_bytes(tokens[right]),
                                 printable_bytes(merged)));
    }
    const uint32_t rank = spec_->merge_ranks.empty() ? static_cast<uint32_t>(i) : spec_->merge_ranks[i];
    if (!merges_.insert(left, right, {rank, *found})) {
      return invalid(fmt::format("model.merges[{}] repeats the merge of {} and {}", i, printable_bytes(tokens[left]),
                                 printable_bytes(tokens[right])));
    }
    blanks_begin_words_ = blanks_begin_words_ && (!tokens[right].starts_with(kBlank) || tokens[left].ends_with(kBlank));
  }
  return ok_status();
}

Status BpeModel::encode(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  // Without merges pieces do not matter, and a piece may be the whole text: no symbols set aside, no cache.
  if (spec_->merges.empty() && !spec_->ignore_merges && out.sizes == nullptr && whole_.empty()) {
    return append_symbols(text, begin, end, out.ids, nullptr);
  }
  if (whole_.empty()) return encode_words(text, begin, end, out);
  size_t word = begin;
  for (size_t at = begin; at < end;) {
    const auto match = whole_.longest_prefix(text.substr(0, end), at);
    if (!match) {
      at += decode_utf8(text.substr(at, end - at)).num_bytes;
      continue;
    }
    if (word < at) RETURN_IF_ERROR(encode_words(text, word, at, out));
    out.ids.push_back(match->value);
    if (out.sizes != nullptr) out.sizes->push_back(match->length);
    word = at = at + match->length;
  }
  return word < end ? encode_words(text, word, end, out) : ok_status();
}

// Where no merge crosses the beginning of a word, words can be merged one by one: the result is the same, and found in
// the cache.
Status BpeModel::encode_words(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  if (!blanks_begin_words_) return encode_word(text, begin, end, out);
  while (begin < end) {
    size_t at = begin;
    while (text.substr(at, end - at).starts_with(kBlank)) at += kBlank.size();
    const size_t next = std::min(text.find(kBlank, at), end);
    RETURN_IF_ERROR(encode_word(text, begin, next, out));
    begin = next;
  }
  return ok_status();
}

Status BpeModel::encode_pieces(std::string_view text, size_t begin, std::span<const size_t> ends,
                               std::vector<int32_t>& ids) const {
  CHECK(ends.size() <= kMostPieces);
  if (!one_word_a_piece_) {
    for (const size_t end : ends) {
      RETURN_IF_ERROR(encode(text, begin, end, {ids}));
      begin = end;
    }
    return ok_status();
  }
  PieceCache& cache = PieceCache::of_this_thread();
  // First all places in the cache, so that they come from memory at once; then what is there.
  std::array<PieceCache::Key, kMostPieces> keys;
  std::array<PieceCache::Set*, kMostPieces> sets;
  for (size_t i = 0, at = begin; i < ends.size(); at = ends[i++]) {
    const size_t size = ends[i] - at;
    if (size > PieceCache::kMaxBytes) continue;
    keys[i] = PieceCache::key_of(serial_, text, at, size);
    sets[i] = &cache.set_of(keys[i]);
    __builtin_prefetch(sets[i]);
  }
  std::array<int32_t, kMostPieces * PieceCache::kMaxIds> found;
  size_t num_found = 0;
  const auto flush = [&] {
    ids.insert(ids.end(), found.begin(), found.begin() + num_found);
    num_found = 0;
  };
  for (size_t i = 0; i < ends.size(); begin = ends[i++]) {
    const bool fits = ends[i] - begin <= PieceCache::kMaxBytes;
    if (const auto* slot = fits ? PieceCache::find(*sets[i], keys[i]) : nullptr) {
      std::memcpy(found.data() + num_found, slot->ids.data(), sizeof(slot->ids));  // a whole slot's: no loop
      num_found += slot->num_ids();
      continue;
    }
    flush();
    const size_t before = ids.size();
    RETURN_IF_ERROR(merge_word(text, begin, ends[i], {ids}));
    if (fits) PieceCache::put(*sets[i], keys[i], std::span(ids).subspan(before));
  }
  flush();
  return ok_status();
}

Status BpeModel::encode_word(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  // The cache knows no sizes.
  if (end - begin > PieceCache::kMaxBytes || out.sizes != nullptr) return merge_word(text, begin, end, out);
  const PieceCache::Key key = PieceCache::key_of(serial_, text, begin, end - begin);
  PieceCache::Set& set = PieceCache::of_this_thread().set_of(key);
  if (const auto* slot = PieceCache::find(set, key)) {
    out.ids.insert(out.ids.end(), slot->ids.begin(), slot->ids.begin() + slot->num_ids());
    return ok_status();
  }
  const size_t before = out.ids.size();
  RETURN_IF_ERROR(merge_word(text, begin, end, out));
  PieceCache::put(set, key, std::span(out.ids).subspan(before));
  return ok_status();
}

Status BpeModel::merge_word(std::string_view text, size_t begin, size_t end, TokenSink out) const {
  if (spec_->ignore_merges) {
    if (const auto id = vocabulary_->find(text.substr(begin, end - begin))) {
      out.ids.push_back(*id);
      if (out.sizes != nullptr) out.sizes->push_back(end - begin);
      return ok_status();
    }
  }
  PieceCache& cache = PieceCache::of_this_thread();
  std::vector<int32_t>& symbols = cache.symbols;
  std::vector<size_t>& unknown_sizes = cache.unknown_sizes;
  symbols.clear();
  unknown_sizes.clear();
  const Status status = append_symbols(text, begin, end, symbols, &unknown_sizes);
  merges_.apply(symbols);
  out.ids.insert(out.ids.end(), symbols.begin(), symbols.end());
  if (out.sizes != nullptr) append_sizes(symbols, unknown_sizes, *out.sizes);
  return status;
}

void BpeModel::append_sizes(const std::vector<int32_t>& symbols, const std::vector<size_t>& unknown_sizes,
                            std::vector<size_t>& sizes) const {
  size_t num_unknown = 0;
  for (const int32_t id : symbols) {
    if (id == spec_->unknown && num_unknown < unknown_sizes.size()) {
      sizes.push_back(unknown_sizes[num_unknown++]);
    } else {
      sizes.push_back(vocabulary_->is_fallback(id) ? 1 : spec_->tokens[id].size());
    }
  }
}

// The bytes of `character` as tokens, if there is one for each.
bool BpeModel::append_fallback(std::string_view character, std::vector<int32_t>& symbols) const {
  if (!spec_->byte_fallback) return false;
  const size_t before = symbols.size();
  for (const char byte : character) {
    const int32_t id = vocabulary_->fallback_id(static_cast<uint8_t>(byte));
    if (id < 0) {
      symbols.resize(before);
      return false;
    }
    symbols.push_back(id);
  }
  return true;
}

Status BpeModel::append_symbols(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& symbols,
                                std::vector<size_t>* unknown_sizes) const {
  const bool by_bytes = spec_->alphabet == Alphabet::kBytes;
  bool after_unknown = false;
  while (begin < end) {
    const uint8_t byte = static_cast<uint8_t>(text[begin]);
    int32_t id = vocabulary_->byte_id(byte);
    uint32_t num_bytes = 1;
    if (!by_bytes && byte >= 0x80) {
      num_bytes = decode_utf8(text.substr(begin, end - begin)).num_bytes;
      id = vocabulary_->find(text.substr(begin, num_bytes)).value_or(-1);
    }
    const bool known = id >= 0 || append_fallback(text.substr(begin, num_bytes), symbols);
    if (id >= 0) {
      symbols.push_back(id);
    } else if (!known) {
      if (!spec_->unknown) return unknown_symbol(text, begin);
      const bool joins = after_unknown && spec_->fuse_unknown;
      if (!joins) symbols.push_back(*spec_->unknown);
      if (unknown_sizes != nullptr) {
        if (!joins) unknown_sizes->push_back(0);
        unknown_sizes->back() += num_bytes;
      }
    }
    after_unknown = !known;
    begin += num_bytes;
  }
  return ok_status();
}

Status BpeModel::unknown_symbol(std::string_view text, size_t at) const {
  const bool by_bytes = spec_->alphabet == Alphabet::kBytes;
  const std::string_view symbol = text.substr(at, by_bytes ? 1 : decode_utf8(text.substr(at)).num_bytes);
  return invalid(
      fmt::format("text at byte {}: {} is not among the tokenizer's {} tokens; use a tokenizer trained on text "
                  "that holds it, or one of all 256 bytes",
                  at, printable_bytes(symbol), spec_->tokens.size()));
}

}  // namespace colossus
