#include "text/token_bytes.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "text/utf8.h"

namespace colossus {

void TokenBytes::add(std::string_view bytes) {
  CHECK(bytes_.size() + bytes.size() <= 0xFFFFFFFF, "tokens must have less than 4 GB together");
  bytes_.insert(begins_.back(), bytes);
  begins_.push_back(begins_.back() + static_cast<uint32_t>(bytes.size()));
}

void TokenBytes::append(std::span<const int32_t> ids, std::string& out) const {
  // Nearly all tokens are short: those are copied kStride bytes at a time, whatever their size, without a call each.
  std::array<char, 4096> buffer;
  size_t used = 0;
  const auto flush = [&] {
    out.append(buffer.data(), used);
    used = 0;
  };
  for (const int32_t id : ids) {
    const bool known = id >= 0 && id < num_tokens();
    const std::string_view bytes = known ? of(id) : kReplacementCharacter;
    if (used + kStride > buffer.size()) flush();
    if (known && bytes.size() <= kStride) {
      std::memcpy(buffer.data() + used, bytes.data(), kStride);
      used += bytes.size();
    } else {
      flush();
      out += bytes;
    }
  }
  flush();
}

}  // namespace colossus
