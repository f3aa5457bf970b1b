#include "data/shard.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/shard_layout.h"

namespace colossus {
namespace {

using shard_layout::Footer;
using shard_layout::Header;

constexpr const char* kBuildAgain = "; build the shards again, or copy the file again from where it came";

Status check_header(const Header& header, ShardIdentity* identity) {
  if (std::string_view(header.magic, 8) != shard_layout::kMagic)
    return invalid("not a token shard (its first bytes are others)");
  if (header.version != shard_layout::kVersion) {
    return invalid(
        fmt::format("a shard of version {}, this program reads version {}", header.version, shard_layout::kVersion));
  }
  if (header.checksum != checksum(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)))) {
    return corrupt(fmt::format("the header was changed{}", kBuildAgain));
  }
  if (header.vocab_size == 0 || header.vocab_size > INT32_MAX || header.block_bytes != kShardBlockBytes) {
    return invalid(fmt::format("a vocabulary of {} tokens or blocks of {} bytes: not possible", header.vocab_size,
                               header.block_bytes));
  }
  *identity = {.vocab_size = static_cast<int64_t>(header.vocab_size), .tokenizer_hash = header.tokenizer_hash};
  if (header.token_bytes != static_cast<uint32_t>(identity->token_bytes())) {
    return invalid(
        fmt::format("{} bytes a token do not fit a vocabulary of {}", header.token_bytes, header.vocab_size));
  }
  return ok_status();
}

Status check_footer(const Footer& footer, const Header& header) {
  if (std::string_view(footer.magic, 8) != shard_layout::kEndMagic) {
    return corrupt(fmt::format("the end of the file is missing: it was cut, or never finished{}", kBuildAgain));
  }
  if (footer.checksum != checksum(std::as_bytes(std::span(&footer, 1)).first(offsetof(Footer, checksum))) ||
      footer.header_checksum != header.checksum) {
    return corrupt(fmt::format("the footer was changed{}", kBuildAgain));
  }
  if (footer.num_tokens > static_cast<uint64_t>(kMaxShardTokens) || footer.num_documents > footer.num_tokens ||
      footer.num_source_bytes > static_cast<uint64_t>(INT64_MAX)) {
    return invalid(fmt::format("{} tokens in {} documents: not possible", footer.num_tokens, footer.num_documents));
  }
  return ok_status();
}

}  // namespace

int64_t Shard::payload_bytes() const {
  return counts_.num_tokens * identity_.token_bytes() + counts_.num_documents * 4;
}

Result<Shard> Shard::open(FileSystem& files, const std::string& path) {
  Shard shard;
  shard.path_ = path;
  ASSIGN_OR_RETURN(shard.file_, files.open(path));
  const Status checked = shard.check_and_read_tables();
  if (!checked.ok()) return checked.at(path);
  RETURN_IF_ERROR(shard.check_last_document());
  return shard;
}

Status Shard::check_and_read_tables() {
  Header header;
  Footer footer;
  constexpr int64_t kFrame = sizeof(Header) + sizeof(Footer);
  if (file_->size() < kFrame)
    return corrupt(fmt::format("{} bytes are too few for a token shard{}", file_->size(), kBuildAgain));
  RETURN_IF_ERROR(read_exactly(*file_, 0, std::as_writable_bytes(std::span(&header, 1))));
  RETURN_IF_ERROR(check_header(header, &identity_));
  RETURN_IF_ERROR(read_exactly(*file_, file_->size() - static_cast<int64_t>(sizeof(Footer)),
                               std::as_writable_bytes(std::span(&footer, 1))));
  RETURN_IF_ERROR(check_footer(footer, header));
  counts_ = {.num_tokens = static_cast<int64_t>(footer.num_tokens),
             .num_documents = static_cast<int64_t>(footer.num_documents),
             .num_source_bytes = static_cast<int64_t>(footer.num_source_bytes)};
  contents_checksum_ = footer.checksum;

  const int64_t num_blocks = (payload_bytes() + kShardBlockBytes - 1) / kShardBlockBytes;
  const int64_t needed = kFrame + payload_bytes() + num_blocks * 8;
  if (file_->size() != needed) {
    return corrupt(fmt::format("{} bytes, but {} tokens in {} documents need {}{}", file_->size(), counts_.num_tokens,
                               counts_.num_documents, needed, kBuildAgain));
  }
  block_checksums_.resize(static_cast<size_t>(num_blocks));  // a 131072nd of the file's size, which was checked
  const auto table = std::as_writable_bytes(std::span(block_checksums_));
  RETURN_IF_ERROR(read_exactly(*file_, static_cast<int64_t>(sizeof(Header)) + payload_bytes(), table));
  if (checksum(table) != footer.checksums_checksum)
    return corrupt(fmt::format("the table of checksums was changed{}", kBuildAgain));
  block_checked_ = std::make_unique<std::atomic<uint8_t>[]>(block_checksums_.size());
  return ok_status();
}

Status Shard::check_last_document() const {
  if (counts_.num_tokens == 0) return ok_status();
  uint32_t last_end = 0;
  if (counts_.num_documents > 0)
    RETURN_IF_ERROR(read_document_ends(counts_.num_documents - 1, std::span(&last_end, 1)));
  if (last_end == counts_.num_tokens) return ok_status();
  return invalid(fmt::format("[{}] the last document ends at token {} of {}", path_, last_end, counts_.num_tokens));
}

Status Shard::check_block(int64_t block) const {
  std::atomic<uint8_t>& checked = block_checked_[static_cast<size_t>(block)];
  if (checked.load(std::memory_order_relaxed) != 0) return ok_status();
  std::array<std::byte, 32768> piece;
  StreamingChecksum sum;
  const int64_t begin = block * kShardBlockBytes, end = std::min(begin + kShardBlockBytes, payload_bytes());
  for (int64_t at = begin; at < end; at += static_cast<int64_t>(piece.size())) {
    const auto part = std::span(piece).first(static_cast<size_t>(std::min<int64_t>(piece.size(), end - at)));
    RETURN_IF_ERROR(read_exactly(*file_, static_cast<int64_t>(sizeof(Header)) + at, part).at(path_));
    sum.add(part);
  }
  if (sum.value() != block_checksums_[static_cast<size_t>(block)]) {
    return corrupt(fmt::format("[{}] bytes {} to {} were changed since they were written{}", path_,
                               begin + static_cast<int64_t>(sizeof(Header)),
                               end + static_cast<int64_t>(sizeof(Header)) - 1, kBuildAgain));
  }
  checked.store(1, std::memory_order_relaxed);
  return ok_status();
}

Status Shard::read_payload(int64_t offset, std::span<std::byte> into) const {
  const int64_t last = offset + static_cast<int64_t>(into.size()) - 1;
  for (int64_t block = offset / kShardBlockBytes; block <= last / kShardBlockBytes; ++block)
    RETURN_IF_ERROR(check_block(block));
  return read_exactly(*file_, static_cast<int64_t>(sizeof(Header)) + offset, into).at(path_);
}

Status Shard::read_tokens(int64_t first, std::span<int32_t> into) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= counts_.num_tokens);
  if (into.empty()) return ok_status();
  if (identity_.token_bytes() == 4) {
    RETURN_IF_ERROR(read_payload(first * 4, std::as_writable_bytes(into)));
  } else {
    std::array<uint16_t, 8192> narrow;
    for (size_t done = 0; done < into.size(); done += narrow.size()) {
      const auto part = std::span(narrow).first(std::min(narrow.size(), into.size() - done));
      RETURN_IF_ERROR(read_payload((first + static_cast<int64_t>(done)) * 2, std::as_writable_bytes(part)));
      std::copy(part.begin(), part.end(), into.begin() + static_cast<ptrdiff_t>(done));
    }
  }
  // The checksum says that the bytes are the writer's; it cannot say that the writer was ours.
  uint32_t largest = 0;
  for (const int32_t token : into) largest = std::max(largest, static_cast<uint32_t>(token));
  if (largest >= static_cast<uint64_t>(identity_.vocab_size)) {
    return corrupt(fmt::format("[{}] a token near {} has the id {}, the vocabulary has {}{}", path_, first, largest,
                               identity_.vocab_size, kBuildAgain));
  }
  return ok_status();
}

Status Shard::read_document_ends(int64_t first, std::span<uint32_t> into) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= counts_.num_documents);
  if (into.empty()) return ok_status();
  return read_payload(counts_.num_tokens * identity_.token_bytes() + first * 4, std::as_writable_bytes(into));
}

Result<int64_t> Shard::document_of(int64_t token) const {
  CHECK(token >= 0 && token < counts_.num_tokens);
  // Halves on the disk until a page holds the rest: a table in memory would cost 4 bytes for every document of a
  // corpus.
  std::array<uint32_t, 1024> ends;
  int64_t low = 0, high = counts_.num_documents;  // the answer is the first document whose end is beyond the token
  while (high - low > static_cast<int64_t>(ends.size())) {
    const int64_t middle = low + (high - low) / 2;
    RETURN_IF_ERROR(read_document_ends(middle, std::span(ends).first(1)));
    if (ends[0] > token)
      high = middle;
    else
      low = middle + 1;
  }
  // `high` itself may be the answer, and need not be read for it.
  const auto part = std::span(ends).first(static_cast<size_t>(high - low));
  RETURN_IF_ERROR(read_document_ends(low, part));
  const auto found = std::upper_bound(part.begin(), part.end(), static_cast<uint32_t>(token));
  const int64_t document = low + (found - part.begin());
  return std::min(document, counts_.num_documents - 1);
}

Status Shard::verify() const {
  std::vector<int32_t> tokens(65536);
  for (int64_t first = 0; first < counts_.num_tokens; first += static_cast<int64_t>(tokens.size())) {
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(tokens.size()), counts_.num_tokens - first);
    RETURN_IF_ERROR(read_tokens(first, std::span(tokens).first(static_cast<size_t>(count))));
  }
  std::vector<uint32_t> ends(65536);
  uint32_t previous = 0;
  for (int64_t first = 0; first < counts_.num_documents; first += static_cast<int64_t>(ends.size())) {
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(ends.size()), counts_.num_documents - first);
    RETURN_IF_ERROR(read_document_ends(first, std::span(ends).first(static_cast<size_t>(count))));
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t end = ends[static_cast<size_t>(i)];
      if (end <= previous || end > counts_.num_tokens) {
        return corrupt(fmt::format("[{}] document {} ends at token {}, the one before it at {}{}", path_, first + i,
                                   end, previous, kBuildAgain));
      }
      previous = end;
    }
  }
  return ok_status();
}

}  // namespace colossus
