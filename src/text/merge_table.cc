#include "text/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <queue>

#include "base/check.h"

namespace colossus {

namespace {

// Up to here a scan for the lowest rank beats a heap: nearly all pieces are shorter.
constexpr size_t kShortPiece = 48;

}  // namespace

MergeTable::MergeTable(size_t num_merges) {
  const size_t capacity = std::bit_ceil(std::max<size_t>(2 * num_merges, 16));
  slots_.resize(capacity);
  mask_ = capacity - 1;
  shift_ = 64 - std::countr_zero(capacity);
}

bool MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = key_of(left, right);
  size_t slot = slot_of(key);
  for (; slots_[slot].key != kNoKey; slot = (slot + 1) & mask_) {
    if (slots_[slot].key == key) return false;
  }
  slots_[slot] = {key, merge};
  return true;
}

void MergeTable::apply(std::vector<int32_t>& symbols) const {
  if (symbols.size() < 2) return;
  symbols.size() <= kShortPiece ? apply_short(symbols) : apply_long(symbols);
}

void MergeTable::apply_short(std::vector<int32_t>& symbols) const {
  std::array<Merge, kShortPiece> merges;  // merges[i]: of symbols i and i + 1
  size_t num_pairs = symbols.size() - 1;
  for (size_t i = 0; i < num_pairs; ++i) merges[i] = find(symbols[i], symbols[i + 1]);
  while (num_pairs > 0) {
    size_t best = 0;
    for (size_t i = 1; i < num_pairs; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoRank) break;
    symbols[best] = merges[best].id;
    std::copy(symbols.begin() + best + 2, symbols.begin() + num_pairs + 1, symbols.begin() + best + 1);
    std::copy(merges.begin() + best + 1, merges.begin() + num_pairs, merges.begin() + best);
    --num_pairs;
    if (best > 0) merges[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best < num_pairs) merges[best] = find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(num_pairs + 1);
}

void MergeTable::apply_long(std::vector<int32_t>& symbols) const {
  struct Node {
    uint32_t previous;
    uint32_t next;
    Merge merge;  // with the next node
  };
  CHECK(symbols.size() < kNoRank, "a piece must be shorter than 4 GB");
  const uint32_t size = static_cast<uint32_t>(symbols.size());
  constexpr uint32_t kNone = 0xFFFFFFFF;
  std::vector<Node> nodes(size);
  // Entries (rank << 32 | position), never removed: one is stale when its node's merge has another rank by now.
  std::vector<uint64_t> initial;
  for (uint32_t i = 0; i < size; ++i) {
    nodes[i] = {i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1, {}};
    if (i + 1 < size) nodes[i].merge = find(symbols[i], symbols[i + 1]);
    if (nodes[i].merge.rank != kNoRank) initial.push_back(static_cast<uint64_t>(nodes[i].merge.rank) << 32 | i);
  }
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap({}, std::move(initial));
  const auto pair_again = [&](uint32_t i) {
    const uint32_t next = nodes[i].next;
    nodes[i].merge = next == kNone ? Merge{} : find(symbols[i], symbols[next]);
    if (nodes[i].merge.rank != kNoRank) heap.push(static_cast<uint64_t>(nodes[i].merge.rank) << 32 | i);
  };
  while (!heap.empty()) {
    const uint64_t entry = heap.top();
    heap.pop();
    const uint32_t i = static_cast<uint32_t>(entry);
    if (nodes[i].merge.rank != entry >> 32) continue;
    const uint32_t gone = nodes[i].next;
    symbols[i] = nodes[i].merge.id;
    nodes[i].next = nodes[gone].next;
    nodes[gone].merge = {};
    if (nodes[i].next != kNone) nodes[nodes[i].next].previous = i;
    pair_again(i);
    if (nodes[i].previous != kNone) pair_again(nodes[i].previous);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i != kNone; i = nodes[i].next) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace colossus
