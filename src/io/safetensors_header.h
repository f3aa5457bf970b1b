// The JSON header of a safetensors file, apart from any file. Internal to io/safetensors.cc and its tests.
#pragma once

#include "io/safetensors.h"

namespace colossus {

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // by offset; offsets count from the first byte after the header
  std::map<std::string, std::string> metadata;
};

// data_bytes: how many bytes follow the header in the file; all of them must belong to tensors.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, int64_t data_bytes);

// The 8 bytes of length and the JSON, padded with spaces to a multiple of 8 bytes as the format asks.
Result<std::string> write_safetensors_header(const std::vector<SafetensorsSpec>& specs,
                                             const std::map<std::string, std::string>& metadata);

}  // namespace colossus
