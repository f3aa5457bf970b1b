// One file of tokens with its document boundaries; the bytes are described in docs/formats.md, "Token shards".
// Every mebibyte carries a checksum, checked when it is first read: a damaged disk is named, not trained on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/checksum.h"
#include "io/file_system.h"

namespace colossus {

// What makes two shards speak the same language.
struct ShardIdentity {
  int64_t vocab_size = 0;
  uint64_t tokenizer_hash = 0;
  int token_bytes() const { return vocab_size <= 65536 ? 2 : 4; }
  bool operator==(const ShardIdentity&) const = default;
};

struct ShardCounts {
  int64_t num_tokens = 0;
  int64_t num_documents = 0;
  int64_t num_source_bytes = 0;  // of text the tokens came from
  bool operator==(const ShardCounts&) const = default;
};

constexpr int64_t kShardBlockBytes = int64_t{1} << 20;
constexpr int64_t kMaxShardTokens = (int64_t{1} << 32) - 1;  // document ends are stored in 32 bits

// Writes a shard front to back in bounded memory: one block, and 4 bytes a document.
class ShardWriter {
 public:
  static Result<ShardWriter> create(FileSystem& files, const std::string& path, const ShardIdentity& identity);

  // Tokens of the current document; an id outside the vocabulary is an error.
  Status append(std::span<const int32_t> tokens);
  void end_document();  // one without tokens is not counted
  void add_source_bytes(int64_t bytes) { counts_.num_source_bytes += bytes; }
  const ShardCounts& counts() const { return counts_; }
  // Ends the last document, syncs and closes. The result identifies the contents: same bytes, same number.
  Result<uint64_t> finish();

 private:
  ShardWriter() = default;
  Status put(std::span<const std::byte> bytes);
  Status close_block();

  std::string path_;
  ShardIdentity identity_;
  ShardCounts counts_;
  std::unique_ptr<FileWriter> file_;
  std::vector<std::byte> block_;
  std::vector<uint32_t> document_ends_;
  std::vector<uint64_t> block_checksums_;
  uint64_t header_checksum_ = 0;
};

// A shard opened for reading; safe from several threads, which may check the same block at the same time.
class Shard {
 public:
  // Checks header, footer and every size against the file; the blocks wait for their first reader.
  static Result<Shard> open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  const ShardIdentity& identity() const { return identity_; }
  const ShardCounts& counts() const { return counts_; }
  uint64_t contents_checksum() const { return contents_checksum_; }

  // Tokens first .. first + into.size() - 1, which must exist. No allocation.
  Status read_tokens(int64_t first, std::span<int32_t> into) const;
  // Into[i] = one past the last token of document first + i. No allocation.
  Status read_document_ends(int64_t first, std::span<uint32_t> into) const;
  // The document that holds a token.
  Result<int64_t> document_of(int64_t token) const;
  // Reads everything: checksums, token ids, rising document ends.
  Status verify() const;

 private:
  Shard() = default;
  Status check_and_read_tables();
  Status check_last_document() const;
  Status read_payload(int64_t offset, std::span<std::byte> into) const;
  Status check_block(int64_t block) const;
  int64_t payload_bytes() const;

  std::string path_;
  std::unique_ptr<FileReader> file_;
  ShardIdentity identity_;
  ShardCounts counts_;
  uint64_t contents_checksum_ = 0;
  std::vector<uint64_t> block_checksums_;
  std::unique_ptr<std::atomic<uint8_t>[]> block_checked_;
};

}  // namespace colossus
