// A directory of shards: index.json names the shards of each split; an opened split is one long stream of tokens.
#pragma once

#include <optional>

#include "data/shard.h"

namespace colossus {

constexpr const char* kTrainSplit = "train";
constexpr const char* kValidationSplit = "validation";

struct ShardListing {
  std::string file;  // in the directory of the index
  ShardCounts counts;
  uint64_t contents_checksum = 0;
};

struct ShardIndex {
  ShardIdentity identity;
  std::optional<int32_t> bos_token, eos_token;  // begin and end each whole document, where the tokenizer has them
  std::string split_rule;                       // for people: how validation was set apart
  std::vector<ShardListing> train, validation;

  const std::vector<ShardListing>& split(const std::string& name) const {
    return name == kTrainSplit ? train : validation;
  }
  ShardCounts totals(const std::string& name) const;
};

Result<ShardIndex> read_shard_index(FileSystem& files, const std::string& directory);
// Atomic: readers of the directory see the old build or the new one.
Status write_shard_index(FileSystem& files, const std::string& directory, const ShardIndex& index);

// All shards of a split, one behind the other. Documents never cross shards. Thread-safe.
class ShardSet {
 public:
  static Result<ShardSet> open(FileSystem& files, const std::string& directory, const std::string& split);

  const std::string& directory() const { return directory_; }
  const ShardIndex& index() const { return index_; }
  const std::vector<Shard>& shards() const { return shards_; }
  int64_t num_tokens() const { return first_tokens_.back(); }

  // No allocation in these two; first .. first + into.size() - 1 must exist.
  Status read_tokens(int64_t first, std::span<int32_t> into) const;
  // into[i] = the i' <= i at which the document of token first + i begins; 0 when it began before `first`.
  Status read_document_starts(int64_t first, std::span<int32_t> into) const;

 private:
  ShardSet() = default;
  size_t shard_of(int64_t token) const;
  Status starts_within(const Shard& shard, int64_t local, std::span<int32_t> into, int32_t row_offset) const;

  std::string directory_;
  ShardIndex index_;
  std::vector<Shard> shards_;
  std::vector<int64_t> first_tokens_ = {0};  // of each shard, and the total
};

}  // namespace colossus
