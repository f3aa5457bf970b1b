#include "text/bpe_merger.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace colossus {

BpeMerger::BpeMerger(const std::vector<PieceCounts>& shards, const std::array<int32_t, 256>& byte_ids,
                     std::vector<std::string> tokens, int64_t min_count)
    : min_count_(std::max<int64_t>(min_count, 1)), tokens_(std::move(tokens)) {
  add_pieces(shards, byte_ids);
  add_initial_pairs();
}

void BpeMerger::add_pieces(const std::vector<PieceCounts>& shards, const std::array<int32_t, 256>& byte_ids) {
  size_t num_symbols = 0;
  size_t num_pieces = 0;
  for (const PieceCounts& shard : shards) {
    num_symbols += shard.num_bytes();
    num_pieces += shard.num_pieces();
  }
  CHECK(num_symbols < kNone, "distinct pieces must hold fewer than 2^32 bytes");
  symbols_.reserve(num_symbols);
  piece_counts_.reserve(num_pieces);
  for (const PieceCounts& shard : shards) {
    shard.for_each([&](std::string_view piece, int64_t count, uint32_t) {
      if (piece.size() < 2) return;  // nothing to merge
      for (size_t i = 0; i < piece.size(); ++i) {
        const uint32_t at = static_cast<uint32_t>(symbols_.size());
        symbols_.push_back({.id = byte_ids[static_cast<uint8_t>(piece[i])],
                            .previous = i == 0 ? kNone : at - 1,
                            .next = i + 1 == piece.size() ? kNone : at + 1,
                            .piece = static_cast<uint32_t>(piece_counts_.size())});
      }
      piece_counts_.push_back(count);
    });
  }
}

void BpeMerger::add_initial_pairs() {
  struct Seen {
    int64_t count = 0;
    uint32_t num_positions = 0;
    uint32_t pair = kNone;
  };
  const int32_t first_byte = static_cast<int32_t>(tokens_.size()) - 256;
  CHECK(first_byte >= 0, "the 256 bytes must end the tokens");
  left_.by_id.resize(tokens_.size());
  right_.by_id.resize(tokens_.size());
  std::vector<Seen> seen(256 * 256);
  const auto seen_at = [&](const Symbol& symbol) -> Seen& {
    return seen[(symbol.id - first_byte) * 256 + (symbols_[symbol.next].id - first_byte)];
  };
  for (const Symbol& symbol : symbols_) {
    if (symbol.next == kNone) continue;
    Seen& pair = seen_at(symbol);
    pair.count += piece_counts_[symbol.piece];
    ++pair.num_positions;
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i].count < min_count_) continue;
    const int32_t left = first_byte + static_cast<int32_t>(i / 256);
    const int32_t right = first_byte + static_cast<int32_t>(i % 256);
    seen[i].pair = make_pair(left, right, seen[i].count, seen[i].num_positions);
    seen[i].num_positions = 0;
  }
  for (uint32_t at = 0; at < symbols_.size(); ++at) {
    if (symbols_[at].next == kNone) continue;
    Seen& pair = seen_at(symbols_[at]);
    if (pair.pair != kNone) positions_[pairs_[pair.pair].first + pair.num_positions++] = at;
  }
}

uint32_t BpeMerger::make_pair(int32_t left, int32_t right, int64_t count, uint32_t num_positions) {
  const uint32_t index = static_cast<uint32_t>(pairs_.size());
  pairs_.push_back({left, right, count, positions_.size(), num_positions});
  positions_.resize(positions_.size() + num_positions);
  pair_index_.emplace(key_of(left, right), index);
  push(index);
  return index;
}

bool BpeMerger::comes_later(const HeapEntry& a, const HeapEntry& b) const {
  if (a.count != b.count) return a.count < b.count;
  const Pair& pair_a = pairs_[a.pair];
  const Pair& pair_b = pairs_[b.pair];
  if (pair_a.left != pair_b.left) return tokens_[pair_a.left] < tokens_[pair_b.left];
  return tokens_[pair_a.right] < tokens_[pair_b.right];
}

void BpeMerger::push(uint32_t pair) {
  heap_.push_back({pairs_[pair].count, pair});
  std::push_heap(heap_.begin(), heap_.end(), [this](const auto& a, const auto& b) { return comes_later(a, b); });
}

std::optional<BpeMerger::Merge> BpeMerger::merge_best() {
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), [this](const auto& a, const auto& b) { return comes_later(a, b); });
    const HeapEntry entry = heap_.back();
    heap_.pop_back();
    const Pair pair = pairs_[entry.pair];
    if (pair.count < min_count_) {
      pair_index_.erase(key_of(pair.left, pair.right));
      continue;
    }
    if (pair.count != entry.count) {
      push(entry.pair);
      continue;
    }
    const int32_t merged = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(tokens_[pair.left] + tokens_[pair.right]);
    left_.by_id.emplace_back();
    right_.by_id.emplace_back();
    pair_index_.erase(key_of(pair.left, pair.right));
    merge_places(pair, merged);
    apply_side(left_, true, pair, merged);
    apply_side(right_, false, pair, merged);
    return Merge{pair.left, pair.right, pair.count};
  }
  return std::nullopt;
}

void BpeMerger::Side::record(int32_t neighbour, uint32_t position, int64_t count) {
  Neighbour& entry = by_id[neighbour];
  if (entry.num_positions++ == 0) touched.push_back(neighbour);
  entry.gained += count;
  places.emplace_back(neighbour, position);
}

void BpeMerger::merge_places(const Pair& pair, int32_t merged) {
  for (uint64_t i = pair.first; i < pair.first + pair.num_positions; ++i) {
    const uint32_t at = positions_[i];
    Symbol& symbol = symbols_[at];
    // Stale: an earlier merge, or this one one place before (a a a), has taken one of the two.
    if (symbol.id != pair.left || symbol.next == kNone || symbols_[symbol.next].id != pair.right) continue;
    const int64_t count = piece_counts_[symbol.piece];
    Symbol& taken = symbols_[symbol.next];
    symbol.id = merged;
    symbol.next = taken.next;
    taken.id = kGone;
    if (symbol.next != kNone) {
      symbols_[symbol.next].previous = at;
      const int32_t after = symbols_[symbol.next].id;
      right_.record(after, at, count);
      right_.by_id[after].lost += count;
    }
    if (symbol.previous != kNone) {
      const int32_t before = symbols_[symbol.previous].id;
      left_.record(before, symbol.previous, count);
      if (before == merged) {
        // The place before was merged in this very step, and counted the pair (merged, left), which is gone again.
        right_.by_id[pair.left].gained -= count;
      } else {
        left_.by_id[before].lost += count;
      }
    }
  }
}

void BpeMerger::apply_side(Side& side, bool neighbour_is_left, const Pair& pair, int32_t merged) {
  for (const int32_t neighbour : side.touched) {
    Neighbour& change = side.by_id[neighbour];
    const uint64_t old_key = neighbour_is_left ? key_of(neighbour, pair.left) : key_of(pair.right, neighbour);
    // Pairs not found are the one just merged, and those too rare to be kept.
    if (change.lost > 0) {
      if (const auto found = pair_index_.find(old_key); found != pair_index_.end())
        pairs_[found->second].count -= change.lost;
    }
    if (change.gained >= min_count_) {
      const uint32_t num_positions = std::exchange(change.num_positions, 0);
      change.pair = neighbour_is_left ? make_pair(neighbour, merged, change.gained, num_positions)
                                      : make_pair(merged, neighbour, change.gained, num_positions);
    }
  }
  for (const auto& [neighbour, position] : side.places) {
    Neighbour& change = side.by_id[neighbour];
    if (change.pair != kNone) positions_[pairs_[change.pair].first + change.num_positions++] = position;
  }
  for (const int32_t neighbour : side.touched) side.by_id[neighbour] = {};
  side.touched.clear();
  side.places.clear();
}

}  // namespace colossus
