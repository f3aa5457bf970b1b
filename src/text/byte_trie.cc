#include "text/byte_trie.h"

#include <utility>

#include "base/check.h"

namespace colossus {

uint32_t ByteTrie::make_node() {
  values_.push_back(-1);
  return num_nodes_++;
}

void ByteTrie::put(uint64_t key, uint32_t child) {
  size_t slot = slot_of(key);
  while (slots_[slot].key != kNoKey) slot = (slot + 1) & mask_;
  slots_[slot] = {key, child};
}

void ByteTrie::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(slots_.empty() ? 64 : 2 * slots_.size()));
  mask_ = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.key != kNoKey) put(slot.key, slot.child);
  }
}

bool ByteTrie::insert(std::string_view string, int32_t value) {
  CHECK(!string.empty() && value >= 0);
  uint32_t& root = roots_[static_cast<uint8_t>(string[0])];
  if (root == kNone) root = make_node();
  uint32_t node = root;
  for (const char c : string.substr(1)) {
    const uint8_t byte = static_cast<uint8_t>(c);
    uint32_t next = child(node, byte);
    if (next == kNone) {
      if (2 * (num_edges_ + 1) > slots_.size()) grow();
      next = make_node();
      put(static_cast<uint64_t>(node) << 8 | byte, next);
      ++num_edges_;
    }
    node = next;
  }
  if (values_[node] >= 0) return false;
  values_[node] = value;
  return true;
}

std::optional<ByteTrie::Match> ByteTrie::longest_prefix(std::string_view text, size_t from) const {
  std::optional<Match> longest;
  for_each_prefix(text, from, [&](size_t length, int32_t value) { longest = Match{length, value}; });
  return longest;
}

}  // namespace colossus
