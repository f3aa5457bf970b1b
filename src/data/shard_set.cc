#include "data/shard_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace colossus {

ShardCounts ShardIndex::totals(const std::string& name) const {
  ShardCounts sum;
  for (const ShardListing& shard : split(name)) {
    sum.num_tokens += shard.counts.num_tokens;
    sum.num_documents += shard.counts.num_documents;
    sum.num_source_bytes += shard.counts.num_source_bytes;
  }
  return sum;
}

Result<ShardSet> ShardSet::open(FileSystem& files, const std::string& directory, const std::string& split) {
  if (split != kTrainSplit && split != kValidationSplit) {
    return invalid(fmt::format("there is no split \"{}\"; there are {} and {}", split, kTrainSplit, kValidationSplit));
  }
  ShardSet set;
  set.directory_ = directory;
  ASSIGN_OR_RETURN(set.index_, read_shard_index(files, directory));
  for (const ShardListing& listing : set.index_.split(split)) {
    const std::string path = directory + "/" + listing.file;
    ASSIGN_OR_RETURN(Shard shard, Shard::open(files, path));
    if (shard.identity() != set.index_.identity || shard.counts() != listing.counts ||
        shard.contents_checksum() != listing.contents_checksum) {
      return corrupt(
          fmt::format("[{}] is not the shard that {}/index.json lists; build the shards again", path, directory));
    }
    set.first_tokens_.push_back(set.first_tokens_.back() + shard.counts().num_tokens);
    set.shards_.push_back(std::move(shard));
  }
  return set;
}

size_t ShardSet::shard_of(int64_t token) const {
  const auto after = std::upper_bound(first_tokens_.begin(), first_tokens_.end(), token);
  return static_cast<size_t>(after - first_tokens_.begin()) - 1;
}

Status ShardSet::read_tokens(int64_t first, std::span<int32_t> into) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= num_tokens());
  while (!into.empty()) {
    const size_t shard = shard_of(first);
    const auto part = into.first(std::min(into.size(), static_cast<size_t>(first_tokens_[shard + 1] - first)));
    RETURN_IF_ERROR(shards_[shard].read_tokens(first - first_tokens_[shard], part));
    into = into.subspan(part.size());
    first += static_cast<int64_t>(part.size());
  }
  return ok_status();
}

Status ShardSet::starts_within(const Shard& shard, int64_t local, std::span<int32_t> into, int32_t row_offset) const {
  ASSIGN_OR_RETURN(int64_t document, shard.document_of(local));
  std::array<uint32_t, 256> ends;
  size_t have = 0, next = 0;
  size_t at = 0;
  // The first document may have begun before the row: then it starts at the row's position 0. So does, within a row
  // that crosses into this shard, a document of this shard at its own first token.
  int32_t start = row_offset;
  while (at < into.size()) {
    if (next == have) {
      have = static_cast<size_t>(
          std::min<int64_t>(static_cast<int64_t>(ends.size()), shard.counts().num_documents - document));
      if (have == 0) return corrupt(fmt::format("[{}] its documents end before its tokens", shard.path()));
      RETURN_IF_ERROR(shard.read_document_ends(document, std::span(ends).first(have)));
      document += static_cast<int64_t>(have);
      next = 0;
    }
    const int64_t end = static_cast<int64_t>(ends[next++]) - local;  // within `into`
    for (; at < into.size() && static_cast<int64_t>(at) < end; ++at) into[at] = start;
    start = row_offset + static_cast<int32_t>(at);
  }
  return ok_status();
}

Status ShardSet::read_document_starts(int64_t first, std::span<int32_t> into) const {
  CHECK(first >= 0 && first + static_cast<int64_t>(into.size()) <= num_tokens());
  for (size_t done = 0; done < into.size();) {
    const int64_t token = first + static_cast<int64_t>(done);
    const size_t shard = shard_of(token);
    const size_t count = std::min(into.size() - done, static_cast<size_t>(first_tokens_[shard + 1] - token));
    RETURN_IF_ERROR(starts_within(shards_[shard], token - first_tokens_[shard], into.subspan(done, count),
                                  static_cast<int32_t>(done)));
    done += count;
  }
  return ok_status();
}

}  // namespace colossus
