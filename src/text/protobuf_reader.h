// The wire format of Protocol Buffers, read field by field, never past the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/status.h"

namespace colossus {

struct ProtobufField {
  uint32_t number = 0;
  uint64_t value = 0;           // of a varint, fixed32 or fixed64
  std::string_view bytes = {};  // of a length-delimited one
  bool is_bytes = false;

  float as_float() const {
    const uint32_t bits = static_cast<uint32_t>(value);
    float number;
    std::memcpy(&number, &bits, sizeof(number));
    return number;
  }
};

class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view bytes) : bytes_(bytes) {}

  // The next field; false at the end.
  Result<bool> next(ProtobufField& field) {
    if (bytes_.empty()) return false;
    ASSIGN_OR_RETURN(const uint64_t tag, varint());
    field = {};
    if (tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return corrupt("a field without a number");
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0: {
        ASSIGN_OR_RETURN(field.value, varint());
        return true;
      }
      case 1: return fixed(8, field);
      case 5: return fixed(4, field);
      case 2: {
        ASSIGN_OR_RETURN(const uint64_t size, varint());
        if (size > bytes_.size()) return corrupt("a field that is longer than what holds it");
        field.bytes = bytes_.substr(0, size);
        field.is_bytes = true;
        bytes_.remove_prefix(size);
        return true;
      }
      default: return corrupt("a field of an unknown kind");
    }
  }

 private:
  Result<uint64_t> varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) return corrupt("cut inside a number");
      const uint8_t byte = static_cast<uint8_t>(bytes_[0]);
      bytes_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return corrupt("a number of more than 64 bits");
  }
  Result<bool> fixed(size_t size, ProtobufField& field) {
    if (bytes_.size() < size) return corrupt("cut inside a number");
    std::memcpy(&field.value, bytes_.data(), size);  // little-endian, as all machines that this is built for
    bytes_.remove_prefix(size);
    return true;
  }

  std::string_view bytes_;
};

}  // namespace colossus
