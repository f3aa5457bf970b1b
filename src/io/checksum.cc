#include "io/checksum.h"

// Compiled in, not linked: the state on our stack must be the state of the code that fills it.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <new>

namespace colossus {

uint64_t checksum(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }
uint64_t checksum(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

Fingerprint fingerprint(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.low64, hash.high64};
}

namespace {
// The structure is public for exactly this use: a state on the stack.
XXH3_state_t* as_state(std::byte* bytes) { return std::launder(reinterpret_cast<XXH3_state_t*>(bytes)); }
const XXH3_state_t* as_state(const std::byte* bytes) {
  return std::launder(reinterpret_cast<const XXH3_state_t*>(bytes));
}
}  // namespace

StreamingChecksum::StreamingChecksum() {
  static_assert(sizeof(XXH3_state_t) <= sizeof(state_) && alignof(XXH3_state_t) <= 64);
  XXH3_64bits_reset(new (state_) XXH3_state_t);
}

void StreamingChecksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(as_state(state_), bytes.data(), bytes.size());
}

uint64_t StreamingChecksum::value() const { return XXH3_64bits_digest(as_state(state_)); }

}  // namespace colossus
