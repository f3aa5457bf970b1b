// A file as a stream of bytes, decompressed on the way where it is gzip or zstd. What it is, its first bytes say.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "io/file_system.h"

namespace colossus {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Up to into.size() bytes; 0 only at the end. A compressed file that was cut or changed is kCorrupt.
  virtual Result<int64_t> read(std::span<std::byte> into) = 0;
  // Of the file itself, compressed as it is: for progress.
  virtual int64_t consumed_bytes() const = 0;
};

enum class Compression { kNone, kGzip, kZstd };
Compression detect_compression(std::span<const std::byte> first_bytes);

// Text shrinks to a tenth, logs to a thirtieth. What grows a thousandfold was made to fill a disk: a compressed file
// that gives more than this many times its own bytes, beyond the first ones, is kExhausted. Who means it decompresses
// it himself: plain files have no limit.
inline constexpr size_t kMaxExpansion = 100;
inline constexpr size_t kFreeExpandedBytes = size_t{64} << 20;

// Memory: a few hundred kilobytes; for zstd up to its window, at most 128 MiB (longer windows are refused).
// gzip: any number of members, zeros after the last as tape drives leave them. zstd: any number of frames.
Result<std::unique_ptr<ByteStream>> open_byte_stream(FileSystem& files, const std::string& path);

}  // namespace colossus
