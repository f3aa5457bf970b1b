// Byte-pair merges at work: (left, right) -> (rank, merged id), and their application to the symbols of one piece.
// Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", 2016.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace colossus {

class MergeTable {
 public:
  static constexpr uint32_t kNoRank = 0xFFFFFFFF;
  struct Merge {
    uint32_t rank = kNoRank;  // lower is earlier
    int32_t id = -1;
  };

  // Room for `num_merges` merges; more may follow, but never twice as many.
  explicit MergeTable(size_t num_merges = 0);
  // False if the pair has a merge already.
  bool insert(int32_t left, int32_t right, Merge merge);

  Merge find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kNoKey) return {};
    }
  }

  // Applies merges to `symbols` in place until none is left: always the lowest rank, and of equals the leftmost.
  // Any length: O(n log n) for long pieces.
  void apply(std::vector<int32_t>& symbols) const;

 private:
  static constexpr uint64_t kNoKey = ~uint64_t{0};
  struct Slot {
    uint64_t key = kNoKey;
    Merge merge;
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot_of(uint64_t key) const { return (key * 0x9E3779B97F4A7C15 >> shift_) & mask_; }

  void apply_short(std::vector<int32_t>& symbols) const;
  void apply_long(std::vector<int32_t>& symbols) const;

  std::vector<Slot> slots_;  // open addressing, at most half full
  size_t mask_ = 0;
  int shift_ = 0;  // takes the product's high bits, which depend on all of the key's
};

}  // namespace colossus
