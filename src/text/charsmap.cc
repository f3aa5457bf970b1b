#include "text/charsmap.h"

#include <fmt/format.h>

#include <cstring>

namespace colossus {

namespace {

// A unit of the double array, as the library Darts-clone (which SentencePiece uses) packs it.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit >> 9 & 1) * 8); }

}  // namespace

Result<Charsmap> Charsmap::read(std::string_view blob) {
  Charsmap map;
  if (blob.empty()) return map;
  uint32_t trie_bytes = 0;
  if (blob.size() < 4) return corrupt("the map of characters is cut");
  std::memcpy(&trie_bytes, blob.data(), 4);
  if (trie_bytes % 4 != 0 || trie_bytes < 4 || trie_bytes > blob.size() - 4) {
    return corrupt(fmt::format("the map of characters says its trie has {} bytes, of {}", trie_bytes, blob.size()));
  }
  map.blob_ = blob;
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), blob.data() + 4, trie_bytes);
  if (!map.replacements().empty() && map.replacements().back() != '\0') {
    return corrupt("the map of characters ends inside a replacement");
  }
  for (uint8_t first = 0; first < 128; ++first) {
    size_t node = map.root(), beyond;
    uint32_t unit = 0;
    if (!map.step(node, first, unit)) continue;
    bool& changes = map.changes_ascii_[first];
    changes = has_leaf(unit);
    for (uint8_t second = 0; second < 128; ++second) changes = changes || map.step(beyond = node, second, unit);
  }
  return map;
}

size_t Charsmap::root() const { return offset_of(units_[0]); }

bool Charsmap::step(size_t& node, uint8_t byte, uint32_t& unit) const {
  node ^= byte;
  // A file may say anything; where it leads outside, there is nothing.
  if (node >= units_.size() || label_of(units_[node]) != byte) return false;
  unit = units_[node];
  node ^= offset_of(unit);
  return node < units_.size();
}

std::optional<Charsmap::Match> Charsmap::longest_prefix(std::string_view text, size_t from) const {
  if (units_.empty()) return std::nullopt;
  std::optional<Match> longest;
  size_t node = root();
  uint32_t unit = 0;
  for (size_t at = from; at < text.size() && step(node, static_cast<uint8_t>(text[at]), unit); ++at) {
    if (!has_leaf(unit)) continue;
    const uint32_t value = value_of(units_[node]);
    if (value < replacements().size()) longest = Match{at + 1 - from, replacements().data() + value};
  }
  return longest;
}

}  // namespace colossus
