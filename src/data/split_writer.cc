#include "data/split_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace colossus {
namespace {

constexpr int64_t kMaxShardDocuments = int64_t{4} << 20;  // the writer holds 4 bytes of each
constexpr const char* kPartialSuffix = ".partial";
constexpr const char* kShardSuffix = ".tokens";

std::string partial_name(const std::string& split, size_t number) {
  return fmt::format("{}-{:05}{}", split, number, kPartialSuffix);
}

// train-00000.partial or train-00000-0123456789abcdef.tokens: only what this program names so is ever removed.
bool named_by_us(const std::string& name) {
  const size_t dash = name.find('-');
  if (dash == std::string::npos) return false;
  const std::string split = name.substr(0, dash);
  if (split != kTrainSplit && split != kValidationSplit) return false;
  const size_t digits_end = name.find_first_not_of("0123456789", dash + 1);
  if (digits_end == std::string::npos || digits_end < dash + 6) return false;
  const std::string rest = name.substr(digits_end);
  return rest == kPartialSuffix || (rest.size() == 24 && rest.front() == '-' && rest.ends_with(kShardSuffix) &&
                                    rest.find_first_not_of("0123456789abcdef", 1) == 17);
}

}  // namespace

Status SplitWriter::append(std::span<const int32_t> tokens, int64_t source_bytes, bool ends_document) {
  if (shard_) {
    const ShardCounts& counts = shard_->counts();
    // A document longer than a whole shard is cut: it counts as two.
    const bool full =
        counts.num_tokens >= shard_tokens_ * (inside_document_ ? 2 : 1) || counts.num_documents >= kMaxShardDocuments;
    if (full) RETURN_IF_ERROR(finish_shard());
  }
  if (!shard_) {
    ASSIGN_OR_RETURN(shard_,
                     ShardWriter::create(files_, directory_ + "/" + partial_name(split_, shards_.size()), identity_));
  }
  RETURN_IF_ERROR(shard_->append(tokens));
  shard_->add_source_bytes(source_bytes);
  if (ends_document) shard_->end_document();
  inside_document_ = !ends_document;
  return ok_status();
}

Status SplitWriter::finish_shard() {
  ASSIGN_OR_RETURN(const uint64_t contents, shard_->finish());
  const std::string name = fmt::format("{}-{:05}-{:016x}{}", split_, shards_.size(), contents, kShardSuffix);
  RETURN_IF_ERROR(files_.rename(directory_ + "/" + partial_name(split_, shards_.size()), directory_ + "/" + name));
  shards_.push_back({.file = name, .counts = shard_->counts(), .contents_checksum = contents});
  shard_.reset();
  return ok_status();
}

Status SplitWriter::finish() {
  if (!shard_) return ok_status();
  return finish_shard();
}

void remove_unlisted_shards(FileSystem& files, const std::string& directory) {
  std::unordered_set<std::string> listed;
  const auto index = read_shard_index(files, directory);
  // An index that cannot be read may still name them.
  if (!index.ok() && index.status().code() != ErrorCode::kNotFound) return;
  if (index.ok()) {
    for (const auto* split : {&index->train, &index->validation}) {
      for (const ShardListing& shard : *split) listed.insert(shard.file);
    }
  }
  const auto entries = files.list(directory);
  if (!entries.ok()) return;
  for (const FileEntry& entry : *entries) {
    // Best effort: a file left behind costs space and nothing else.
    if (named_by_us(entry.name) && !listed.contains(entry.name))
      static_cast<void>(files.remove_all(directory + "/" + entry.name));
  }
}

}  // namespace colossus
