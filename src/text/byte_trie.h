// Strings by their bytes: which of them begin at a place of a text. For vocabularies, added tokens and the like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace colossus {

class ByteTrie {
 public:
  ByteTrie() { roots_.assign(256, kNone); }

  bool empty() const { return num_nodes_ == 1; }
  // `value` is at least 0; a string put in twice keeps its first value, and this is false. Not the empty string.
  bool insert(std::string_view string, int32_t value);

  // Calls visit(length, value) for each string that text[from..] begins with, shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, size_t from, Visit&& visit) const {
    if (from >= text.size()) return;
    uint32_t node = roots_[static_cast<uint8_t>(text[from])];
    for (size_t at = from + 1; node != kNone; ++at) {
      if (values_[node] >= 0) visit(at - from, values_[node]);
      if (at >= text.size()) return;
      node = child(node, static_cast<uint8_t>(text[at]));
    }
  }
  struct Match {
    size_t length = 0;
    int32_t value = -1;
  };
  // The longest of them.
  std::optional<Match> longest_prefix(std::string_view text, size_t from) const;
  bool begins_any(char byte) const { return roots_[static_cast<uint8_t>(byte)] != kNone; }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint64_t kNoKey = ~uint64_t{0};
  struct Slot {
    uint64_t key = kNoKey;  // parent << 8 | byte
    uint32_t child = kNone;
  };

  uint32_t child(uint32_t node, uint8_t byte) const {
    if (slots_.empty()) return kNone;
    const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
    for (size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].child;
      if (slots_[slot].key == kNoKey) return kNone;
    }
  }
  size_t slot_of(uint64_t key) const { return (key * 0x9E3779B97F4A7C15 >> 32) & mask_; }
  uint32_t make_node();
  void put(uint64_t key, uint32_t child);
  void grow();

  std::vector<uint32_t> roots_;  // by first byte
  std::vector<Slot> slots_;      // all further edges: open addressing, at most half full
  size_t mask_ = 0;
  size_t num_edges_ = 0;
  uint32_t num_nodes_ = 1;
  std::vector<int32_t> values_ = {-1};  // by node; -1: no string ends here
};

}  // namespace colossus
