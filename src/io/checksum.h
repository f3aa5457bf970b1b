// XXH3: finds bytes that changed on a disk or on the way; no protection against someone who wants to deceive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace colossus {

// 64 bits.
uint64_t checksum(std::span<const std::byte> bytes);
uint64_t checksum(std::string_view text);

// 128 bits: two texts with the same value are the same text.
struct Fingerprint {
  uint64_t low = 0, high = 0;
  bool operator==(const Fingerprint&) const = default;
};
Fingerprint fingerprint(std::string_view text);

// checksum() from pieces, without a heap.
class StreamingChecksum {
 public:
  StreamingChecksum();
  void add(std::span<const std::byte> bytes);
  uint64_t value() const;

 private:
  alignas(64) std::byte state_[576];  // an XXH3_state_t; checksum.cc asserts the size
};

}  // namespace colossus
