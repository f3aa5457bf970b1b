// The bytes of all tokens, one behind the other: decoding is copying them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace colossus {

class TokenBytes {
 public:
  TokenBytes() = default;
  // To be added in the order of their ids. All together below 4 GB.
  void add(std::string_view bytes);

  int32_t num_tokens() const { return static_cast<int32_t>(begins_.size()) - 1; }
  // Of an id below num_tokens().
  std::string_view of(int32_t id) const {
    const uint32_t begin = begins_[static_cast<size_t>(id)];
    return {bytes_.data() + begin, begins_[static_cast<size_t>(id) + 1] - begin};
  }
  // Any ids: those that no token has give U+FFFD.
  void append(std::span<const int32_t> ids, std::string& out) const;

 private:
  static constexpr size_t kStride = 16;  // bytes behind the last token that may be read, and are 0
  std::string bytes_ = std::string(kStride, '\0');
  std::vector<uint32_t> begins_ = {0};
};

}  // namespace colossus
