// The pair statistics of byte-pair training, kept up to date merge by merge: a merge costs what it changes, not a scan.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/piece_counts.h"

namespace colossus {

class BpeMerger {
 public:
  // byte_ids[b]: the id of byte b; the bytes are the last 256 of `tokens`. tokens[id]: a token's bytes, for breaking
  // ties. Ids of merges continue after them. Pairs that occur less than min_count times are never merged. Needs fewer
  // than 2^32 bytes of distinct pieces.
  BpeMerger(const std::vector<PieceCounts>& shards, const std::array<int32_t, 256>& byte_ids,
            std::vector<std::string> tokens, int64_t min_count);

  struct Merge {
    int32_t left = 0;
    int32_t right = 0;
    int64_t count = 0;
  };
  // Merges the pair that occurs most often (of equals the one with the greatest left token, then the greatest right
  // token, as bytes) into a new id, everywhere. Nothing if no pair is left.
  std::optional<Merge> merge_best();
  const std::vector<std::string>& tokens() const { return tokens_; }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr int32_t kGone = -1;

  // One symbol of a piece. Symbols start as bytes; a merge keeps the left one and takes the right one out of the chain.
  struct Symbol {
    int32_t id;
    uint32_t previous;
    uint32_t next;
    uint32_t piece;
  };
  // A pair and where it may stand (some places are stale): positions_[first .. first + num_positions).
  // All places arise in one step, the one that makes the newer of its two tokens, and in ascending order.
  struct Pair {
    int32_t left;
    int32_t right;
    int64_t count;
    uint64_t first;
    uint32_t num_positions;
  };
  struct HeapEntry {
    int64_t count;  // as of when it was pushed; counts only fall, so a stale entry comes too early, never too late
    uint32_t pair;
  };
  // What one step does to the pairs that the new token forms with one neighbour.
  struct Neighbour {
    int64_t gained = 0;
    int64_t lost = 0;
    uint32_t num_positions = 0;
    uint32_t pair = kNone;  // the new pair, once made
  };
  struct Side {
    std::vector<Neighbour> by_id;
    std::vector<int32_t> touched;
    std::vector<std::pair<int32_t, uint32_t>> places;  // neighbour's id, position of the pair
    void record(int32_t neighbour, uint32_t position, int64_t count);
  };

  void add_pieces(const std::vector<PieceCounts>& shards, const std::array<int32_t, 256>& byte_ids);
  void add_initial_pairs();
  void merge_places(const Pair& pair, int32_t merged);
  void apply_side(Side& side, bool neighbour_is_left, const Pair& pair, int32_t merged);
  uint32_t make_pair(int32_t left, int32_t right, int64_t count, uint32_t num_positions);
  void push(uint32_t pair);
  bool comes_later(const HeapEntry& a, const HeapEntry& b) const;
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  const int64_t min_count_;
  std::vector<std::string> tokens_;
  std::vector<Symbol> symbols_;
  std::vector<int64_t> piece_counts_;
  std::vector<uint32_t> positions_;
  std::vector<Pair> pairs_;
  std::unordered_map<uint64_t, uint32_t> pair_index_;  // pairs that may still be merged
  std::vector<HeapEntry> heap_;
  Side left_;   // neighbours before the new token
  Side right_;  // and after it
};

}  // namespace colossus
