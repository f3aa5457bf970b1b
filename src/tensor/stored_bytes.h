// Bytes that lie somewhere else, in a file, and are read when they are needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/status.h"

namespace colossus {

struct StoredBytes {
  // Fills `into` with the bytes from `offset` on. Called from several threads at once.
  std::function<Status(int64_t offset, std::span<std::byte> into)> read;
  // About how many to ask for at a time: as many as stay in a core's cache, unless small reads cost more than that.
  int64_t chunk_bytes = 256 << 10;
};

}  // namespace colossus
