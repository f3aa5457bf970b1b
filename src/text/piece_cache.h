// What pieces of text became, for those that come again. One per thread, so that encoding is safe from any number of
// threads without a lock; what other tokenizers left there is simply overwritten.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/hash_bytes.h"

namespace colossus {

class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 24;
  static constexpr size_t kMaxIds = 8;

  // A piece of at most kMaxBytes, of the tokenizer `owner` (at least 1, below 2^48).
  struct Key {
    std::array<uint64_t, 3> words;  // its bytes, and zeros
    uint64_t tag;                   // owner << 16 | number of bytes << 8
  };
  // All of `text` may be read, not only the piece [begin, begin + size).
  static Key key_of(uint64_t owner, std::string_view text, size_t begin, size_t size) {
    Key key{.words = {}, .tag = owner << 16 | size << 8};
    const char* piece = text.data() + begin;
    if (text.size() - begin < kMaxBytes) {
      std::memcpy(key.words.data(), piece, size);
      return key;
    }
    // Three loads and masks: a copy of `size` bytes would be a call.
    std::memcpy(key.words.data(), piece, kMaxBytes);
    for (size_t i = 0; i < key.words.size(); ++i) key.words[i] &= kMasks[size][i];
    return key;
  }

  struct alignas(64) Slot {
    std::array<uint64_t, 3> words{};
    uint64_t tag = 0;  // as the key's, and the number of ids
    std::array<int32_t, kMaxIds> ids{};

    bool holds(const Key& key) const { return (tag ^ key.tag) < 256 && words == key.words; }
    size_t num_ids() const { return tag & 255; }
  };
  using Set = std::array<Slot, 2>;

  // Where `key` may be.
  Set& set_of(const Key& key) {
    const uint64_t hash = hash_mix(key.words[0] ^ kHashStart, key.words[1] ^ kHashFactor) ^ key.words[2] ^ key.tag;
    return sets_[hash_mix(hash, kHashFactor) % kNumSets];
  }
  static const Slot* find(const Set& set, const Key& key) {
    for (const Slot& slot : set) {
      if (slot.holds(key)) return &slot;
    }
    return nullptr;
  }
  // In place of the one that was put there before the other. Nothing if `ids` are more than kMaxIds.
  static void put(Set& set, const Key& key, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    set[1] = set[0];
    set[0].words = key.words;
    set[0].tag = key.tag | ids.size();
    std::copy(ids.begin(), ids.end(), set[0].ids.begin());
  }

  static PieceCache& of_this_thread() {
    thread_local PieceCache cache;
    return cache;
  }

  // For the piece at work.
  std::vector<int32_t> symbols;
  std::vector<size_t> unknown_sizes;

 private:
  static constexpr size_t kNumSets = 1 << 14;  // 2 MB

  static constexpr std::array<std::array<uint64_t, 3>, kMaxBytes + 1> kMasks = [] {
    std::array<std::array<uint64_t, 3>, kMaxBytes + 1> masks{};
    for (size_t size = 0; size <= kMaxBytes; ++size) {
      for (size_t byte = 0; byte < size; ++byte) masks[size][byte / 8] |= uint64_t{255} << (byte % 8 * 8);
    }
    return masks;
  }();

  std::vector<Set> sets_ = std::vector<Set>(kNumSets);
};

}  // namespace colossus
