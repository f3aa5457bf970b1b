// The shards of one split, written beside and renamed to names that carry their contents. Internal to build.cc.
#pragma once

#include "data/build.h"

namespace colossus {

class SplitWriter {
 public:
  SplitWriter(FileSystem& files, std::string directory, std::string split, const ShardIdentity& identity,
              int64_t shard_tokens)
      : files_(files),
        directory_(std::move(directory)),
        split_(std::move(split)),
        identity_(identity),
        shard_tokens_(shard_tokens) {}

  Status append(std::span<const int32_t> tokens, int64_t source_bytes, bool ends_document);
  Status finish();
  const std::vector<ShardListing>& shards() const { return shards_; }

 private:
  Status finish_shard();

  FileSystem& files_;
  const std::string directory_, split_;
  const ShardIdentity identity_;
  const int64_t shard_tokens_;
  std::optional<ShardWriter> shard_;
  std::vector<ShardListing> shards_;
  bool inside_document_ = false;
};

// Removes the files in `directory` that are named like shards or parts of them but are not in its index.
void remove_unlisted_shards(FileSystem& files, const std::string& directory);

}  // namespace colossus
