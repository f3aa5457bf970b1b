#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "text/hash_bytes.h"
#include "text/utf8.h"

namespace colossus {

namespace {

// Text repeats its pieces: nine of ten are found here and need no merging. One cache per thread, direct-mapped, so that
// encoding is safe from any number of threads without a lock. Slots of other tokenizers are simply overwritten.
class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 22;
  static constexpr size_t kMaxIds = 8;
  struct alignas(64) Slot {
    uint64_t serial = 0;
    uint8_t num_bytes = 0;
    uint8_t num_ids = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];

    bool holds(uint64_t owner, std::string_view piece) const {
      return serial == owner && num_bytes == piece.size() && std::memcmp(bytes, piece.data(), piece.size()) == 0;
    }
    void set(uint64_t owner, std::string_view piece, std::span<const int32_t> piece_ids) {
      serial = owner;
      num_bytes = static_cast<uint8_t>(piece.size());
      num_ids = static_cast<uint8_t>(piece_ids.size());
      std::memcpy(bytes, piece.data(), piece.size());
      std::copy(piece_ids.begin(), piece_ids.end(), ids);
    }
  };

  Slot& slot(std::string_view piece) { return slots_[hash_bytes(piece) % kNumSlots]; }
  std::vector<int32_t>& symbols() { return symbols_; }

  static PieceCache& of_this_thread() {
    thread_local PieceCache cache;
    return cache;
  }

 private:
  static constexpr size_t kNumSlots = 1 << 14;  // 1 MB
  std::vector<Slot> slots_ = std::vector<Slot>(kNumSlots);
  std::vector<int32_t> symbols_;  // of the piece at work
};

std::string printable(std::string_view bytes) {
  if (find_invalid_utf8(bytes) == std::string_view::npos) return fmt::format("'{}'", bytes);
  std::string out = "bytes";
  for (const char byte : bytes) out += fmt::format(" {:02X}", static_cast<uint8_t>(byte));
  return out;
}

}  // namespace

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  static std::atomic<uint64_t> num_made = 0;
  Tokenizer tokenizer;
  tokenizer.spec_ = std::move(spec);
  tokenizer.serial_ = ++num_made;
  tokenizer.split_ = split_function(tokenizer.spec_.pattern);
  RETURN_IF_ERROR(tokenizer.index_tokens());
  RETURN_IF_ERROR(tokenizer.index_merges());
  tokenizer.added_finder_ = AddedTokenFinder(tokenizer.spec_.added);
  return tokenizer;
}

Status Tokenizer::index_tokens() {
  const size_t num_ids = spec_.tokens.size();
  std::vector<bool> added(num_ids);
  special_.resize(num_ids);
  for (size_t i = 0; i < spec_.added.size(); ++i) {
    const AddedToken& token = spec_.added[i];
    if (token.text.empty()) return invalid(fmt::format("added_tokens[{}].content is empty; a token needs text", i));
    if (token.id < 0 || token.id >= vocab_size() || spec_.tokens[token.id] != token.text) {
      return invalid(fmt::format("added_tokens[{}]: id {} is not the token {}", i, token.id, printable(token.text)));
    }
    if (added[token.id]) return invalid(fmt::format("added_tokens[{}]: id {} was added before", i, token.id));
    added[token.id] = true;
    special_[token.id] = token.special;
  }
  byte_ids_.fill(-1);
  ids_.reserve(num_ids);
  for (size_t id = 0; id < num_ids; ++id) {
    const std::string& token = spec_.tokens[id];
    if (token.empty() || added[id]) continue;
    const auto [entry, is_new] = ids_.emplace(token, static_cast<int32_t>(id));
    if (!is_new) {
      return invalid(fmt::format("model.vocab: ids {} and {} are both {}", entry->second, id, printable(token)));
    }
    if (token.size() == 1) byte_ids_[static_cast<uint8_t>(token[0])] = static_cast<int32_t>(id);
  }
  return ok_status();
}

Status Tokenizer::index_merges() {
  merges_ = MergeTable(spec_.merges.size());
  std::string merged;
  for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const auto [left, right] = spec_.merges[rank];
    for (const int32_t id : {left, right}) {
      if (id < 0 || id >= vocab_size() || spec_.tokens[id].empty()) {
        return invalid(fmt::format("model.merges[{}] names id {}, which no token has", rank, id));
      }
    }
    merged.assign(spec_.tokens[left]).append(spec_.tokens[right]);
    const auto found = ids_.find(merged);
    if (found == ids_.end()) {
      return invalid(fmt::format("model.merges[{}] joins {} and {}, but model.vocab lacks {}; add it or drop the merge",
                                 rank, printable(spec_.tokens[left]), printable(spec_.tokens[right]),
                                 printable(merged)));
    }
    if (!merges_.insert(left, right, {static_cast<uint32_t>(rank), found->second})) {
      return invalid(fmt::format("model.merges[{}] repeats the merge of {} and {}", rank, printable(spec_.tokens[left]),
                                 printable(spec_.tokens[right])));
    }
  }
  return ok_status();
}

Status Tokenizer::encode(std::string_view text, std::vector<int32_t>& out, EncodeOptions options) const {
  size_t begin = 0;
  while (begin < text.size()) {
    const auto found = added_finder_.find(text, begin, options.allow_special);
    const size_t end = found ? found->begin : text.size();
    if (begin < end) RETURN_IF_ERROR(encode_part(text, begin, end, out));
    if (!found) break;
    out.push_back(found->id);
    begin = found->end;
  }
  return ok_status();
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  RETURN_IF_ERROR(encode(text, ids, options));
  return ids;
}

Status Tokenizer::encode_part(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const {
  // Without merges pieces do not matter, and a piece may be the whole text: no symbols set aside, no cache.
  if (spec_.merges.empty() && !spec_.ignore_merges) return append_symbols(text, begin, end, out);
  PieceCache& cache = PieceCache::of_this_thread();
  const std::string_view part = text.substr(0, end);  // a piece must not look beyond an added token
  while (begin < end) {
    const size_t piece_end = split_(part, begin);
    const std::string_view piece = part.substr(begin, piece_end - begin);
    if (piece.size() > PieceCache::kMaxBytes) {
      RETURN_IF_ERROR(encode_piece(part, begin, piece_end, out));
    } else if (PieceCache::Slot& slot = cache.slot(piece); slot.holds(serial_, piece)) {
      out.insert(out.end(), slot.ids, slot.ids + slot.num_ids);
    } else {
      const size_t before = out.size();
      RETURN_IF_ERROR(encode_piece(part, begin, piece_end, out));
      const size_t num_ids = out.size() - before;
      if (num_ids <= PieceCache::kMaxIds) slot.set(serial_, piece, {out.data() + before, num_ids});
    }
    begin = piece_end;
  }
  return ok_status();
}

Status Tokenizer::encode_piece(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const {
  if (spec_.ignore_merges) {
    if (const auto id = token_id(text.substr(begin, end - begin))) {
      out.push_back(*id);
      return ok_status();
    }
  }
  std::vector<int32_t>& symbols = PieceCache::of_this_thread().symbols();
  symbols.clear();
  const Status status = append_symbols(text, begin, end, symbols);
  merges_.apply(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
  return status;
}

Status Tokenizer::append_symbols(std::string_view text, size_t begin, size_t end, std::vector<int32_t>& out) const {
  const bool by_bytes = spec_.alphabet == Alphabet::kBytes;
  while (begin < end) {
    const uint8_t byte = static_cast<uint8_t>(text[begin]);
    int32_t id = byte_ids_[byte];
    uint32_t num_bytes = 1;
    if (!by_bytes && byte >= 0x80) {
      num_bytes = decode_utf8(text.substr(begin, end - begin)).num_bytes;
      id = token_id(text.substr(begin, num_bytes)).value_or(-1);
    }
    if (id < 0) return unknown_symbol(text, begin);
    out.push_back(id);
    begin += num_bytes;
  }
  return ok_status();
}

Status Tokenizer::unknown_symbol(std::string_view text, size_t at) const {
  const bool by_bytes = spec_.alphabet == Alphabet::kBytes;
  const std::string_view symbol = text.substr(at, by_bytes ? 1 : decode_utf8(text.substr(at)).num_bytes);
  return invalid(
      fmt::format("text at byte {}: {} is not among the tokenizer's {} tokens; use a tokenizer trained on text "
                  "that holds it, or one of all 256 bytes",
                  at, printable(symbol), vocab_size()));
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    text += id >= 0 && id < vocab_size() ? std::string_view(spec_.tokens[id]) : std::string_view("\xEF\xBF\xBD");
  }
  return text;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? std::string_view(spec_.tokens[id]) : std::string_view();
}

std::optional<int32_t> Tokenizer::special(std::string_view text) const {
  for (const AddedToken& token : spec_.added) {
    if (token.text == text) return token.id;
  }
  return std::nullopt;
}

bool Tokenizer::is_special(int32_t id) const { return id >= 0 && id < vocab_size() && special_[id]; }

std::optional<int32_t> Tokenizer::token_id(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::encodes_any_bytes() const {
  return spec_.alphabet == Alphabet::kBytes && std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
}

Result<Tokenizer> load_tokenizer(FileSystem& files, const std::string& path) {
  constexpr int64_t kMaxFileBytes = int64_t{256} << 20;  // ten times the largest published
  ASSIGN_OR_RETURN(const std::string json, read_file(files, path, kMaxFileBytes));
  Result<Tokenizer> tokenizer = Tokenizer::from_json(json);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer;
}

Status save_tokenizer(FileSystem& files, const std::string& path, const Tokenizer& tokenizer) {
  return write_file_atomically(files, path, tokenizer.to_json());
}

}  // namespace colossus
