// A hash for short strings in tables of ours. Not for files, not against adversaries: it may change at any time.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace colossus {

// Odd constants from the golden ratio and sqrt(3).
inline constexpr uint64_t kHashFactor = 0x9E3779B97F4A7C15;
inline constexpr uint64_t kHashStart = 0xBB67AE8584CAA73B;

// Multiplies and folds the high half onto the low one, so that every bit of the input reaches the low bits.
inline uint64_t hash_mix(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_bytes(std::string_view bytes) {
  const char* data = bytes.data();
  size_t left = bytes.size();
  uint64_t hash = kHashStart ^ left;
  for (; left > 8; data += 8, left -= 8) {
    uint64_t block;
    std::memcpy(&block, data, 8);
    hash = hash_mix(hash ^ block, kHashFactor);
  }
  uint64_t tail = 0;
  std::memcpy(&tail, data, left);
  return hash_mix(hash ^ tail, kHashFactor);
}

}  // namespace colossus
