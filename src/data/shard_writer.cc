#include <fmt/format.h>

#include <algorithm>

#include "data/shard.h"
#include "data/shard_layout.h"

namespace colossus {

using shard_layout::Footer;
using shard_layout::Header;

Result<ShardWriter> ShardWriter::create(FileSystem& files, const std::string& path, const ShardIdentity& identity) {
  CHECK(identity.vocab_size > 0 && identity.vocab_size <= INT32_MAX);
  ShardWriter writer;
  writer.path_ = path;
  writer.identity_ = identity;
  writer.block_.reserve(kShardBlockBytes);
  ASSIGN_OR_RETURN(writer.file_, files.create(path));

  Header header{};
  std::memcpy(header.magic, shard_layout::kMagic.data(), sizeof(header.magic));
  header.version = shard_layout::kVersion;
  header.token_bytes = static_cast<uint32_t>(identity.token_bytes());
  header.vocab_size = static_cast<uint64_t>(identity.vocab_size);
  header.tokenizer_hash = identity.tokenizer_hash;
  header.block_bytes = kShardBlockBytes;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  header.checksum = checksum(bytes.first(offsetof(Header, checksum)));
  writer.header_checksum_ = header.checksum;
  RETURN_IF_ERROR(writer.file_->append(bytes));
  return writer;
}

Status ShardWriter::close_block() {
  block_checksums_.push_back(checksum(block_));
  RETURN_IF_ERROR(file_->append(block_));
  block_.clear();
  return ok_status();
}

Status ShardWriter::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), static_cast<size_t>(kShardBlockBytes) - block_.size());
    block_.insert(block_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(part));
    bytes = bytes.subspan(part);
    if (block_.size() == static_cast<size_t>(kShardBlockBytes)) RETURN_IF_ERROR(close_block());
  }
  return ok_status();
}

Status ShardWriter::append(std::span<const int32_t> tokens) {
  CHECK(counts_.num_tokens + static_cast<int64_t>(tokens.size()) <= kMaxShardTokens, "begin another shard before");
  for (const int32_t token : tokens) {
    if (token < 0 || token >= identity_.vocab_size) {
      return invalid(fmt::format("[{}] the tokenizer gave token {}, outside of its vocabulary of {}", path_, token,
                                 identity_.vocab_size));
    }
  }
  counts_.num_tokens += static_cast<int64_t>(tokens.size());
  if (identity_.token_bytes() == 4) return put(std::as_bytes(tokens));
  std::array<uint16_t, 4096> narrow;
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(tokens.size(), narrow.size()));
    std::transform(part.begin(), part.end(), narrow.begin(),
                   [](int32_t token) { return static_cast<uint16_t>(token); });
    RETURN_IF_ERROR(put(std::as_bytes(std::span(narrow).first(part.size()))));
    tokens = tokens.subspan(part.size());
  }
  return ok_status();
}

void ShardWriter::end_document() {
  const auto end = static_cast<uint32_t>(counts_.num_tokens);
  if (end == (document_ends_.empty() ? 0 : document_ends_.back())) return;
  document_ends_.push_back(end);
  ++counts_.num_documents;
}

Result<uint64_t> ShardWriter::finish() {
  end_document();
  RETURN_IF_ERROR(put(std::as_bytes(std::span(document_ends_))));
  if (!block_.empty()) RETURN_IF_ERROR(close_block());
  const auto table = std::as_bytes(std::span(block_checksums_));
  RETURN_IF_ERROR(file_->append(table));

  Footer footer{};
  footer.num_tokens = static_cast<uint64_t>(counts_.num_tokens);
  footer.num_documents = static_cast<uint64_t>(counts_.num_documents);
  footer.num_source_bytes = static_cast<uint64_t>(counts_.num_source_bytes);
  footer.header_checksum = header_checksum_;
  footer.checksums_checksum = checksum(table);
  const auto bytes = std::as_bytes(std::span(&footer, 1));
  footer.checksum = checksum(bytes.first(offsetof(Footer, checksum)));
  std::memcpy(footer.magic, shard_layout::kEndMagic.data(), sizeof(footer.magic));
  RETURN_IF_ERROR(file_->append(bytes));
  RETURN_IF_ERROR(file_->sync());
  RETURN_IF_ERROR(file_->close());
  return footer.checksum;
}

}  // namespace colossus
