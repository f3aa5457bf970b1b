// Where the bytes of a shard lie. Internal to shard_writer.cc, shard.cc and the tests that break shards.
//
//   header (64 bytes) | payload: tokens, then document ends (u32) | checksum of each block (u64) | footer (64 bytes)
//
// Everything is little-endian. The counts stand in the footer because a writer that streams knows them only then; a
// file that was cut has no footer.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace colossus::shard_layout {

static_assert(std::endian::native == std::endian::little, "shards are read and written as they lie in memory");

constexpr std::string_view kMagic = "CLSTOKEN", kEndMagic = "CLSTKEND";
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  uint64_t vocab_size;
  uint64_t tokenizer_hash;
  uint64_t block_bytes;
  uint64_t reserved[2];  // zero
  uint64_t checksum;     // of the bytes before
};

struct Footer {
  uint64_t num_tokens;
  uint64_t num_documents;
  uint64_t num_source_bytes;
  uint64_t header_checksum;     // the header's own: a footer belongs to one header
  uint64_t checksums_checksum;  // of the table of block checksums
  uint64_t reserved;            // zero
  uint64_t checksum;            // of the bytes before: identifies the contents
  char magic[8];
};

static_assert(sizeof(Header) == 64 && sizeof(Footer) == 64);

}  // namespace colossus::shard_layout
