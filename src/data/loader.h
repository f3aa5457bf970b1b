// Batches for training: which tokens sample i of step s is, is a function of (seed, s, i) alone. So the loader's whole
// state is the step number, any rank can ask for any sample, and after a failure no sample is lost or seen twice.
//
// The stream of a split is cut into rows: windows of T + 1 tokens at stride T (the last token of a row is the first of
// the next), so that every token but the very first is a target exactly once an epoch; fewer than T tokens at the end
// are left out. An epoch visits the rows in the order of a keyed permutation, another one each epoch.
//
// Of several sources, sample g belongs to source k as often as its weight says, in every prefix to within about one
// sample per source; then neighbours are shuffled in blocks of 1024. Each source counts its own samples and epochs.
#pragma once

#include <string>
#include <vector>

#include "data/shard_set.h"

namespace colossus {

struct DataSource {
  std::string directory;  // of shards
  double weight = 1.0;    // share of the samples, over the sum of all weights
};

struct LoaderOptions {
  int64_t row_tokens = 0;     // T
  int64_t rows_per_step = 0;  // B of the whole step, over all ranks and microbatches
  uint64_t seed = 0;
  std::string split = kTrainSplit;
  bool shuffle = true;         // false: rows in their order, for evaluation
  bool random_offset = false;  // each epoch shifts the windows by a keyed 0..T-1 tokens; costs one row per epoch
};

class Loader {
 public:
  // All sources must be of one tokenizer; each split must hold at least one row.
  static Result<Loader> open(FileSystem& files, const std::vector<DataSource>& sources, const LoaderOptions& options);

  const LoaderOptions& options() const { return options_; }
  const ShardIdentity& identity() const { return sources_.front().set.index().identity; }
  const ShardIndex& index() const { return sources_.front().set.index(); }               // of the first source
  int64_t num_tokens() const;                                                            // over all sources
  int64_t rows_per_epoch(size_t source = 0) const { return sources_[source].num_rows; }  // of one source

  // Samples first_sample .. first_sample + num_samples - 1 of `step` (0 <= sample < rows_per_step), each array
  // (num_samples, T). document_start may be empty; else document_start[b][t] is the position in row b of the first
  // token of t's document (0 when it began before the row): token t attends to document_start[t] .. t. targets[t] is
  // the token after t, also where that is the first of another document. Thread-safe, allocates nothing. A damaged
  // shard is an error that names the file and the bytes.
  Status fill(int64_t step, int64_t first_sample, int64_t num_samples, std::span<int32_t> tokens,
              std::span<int32_t> targets, std::span<int32_t> document_start) const;

  // Where a sample counted from the start of the run comes from.
  struct Place {
    size_t source = 0;
    int64_t epoch = 0;
    int64_t row = 0;          // in the source's order
    int64_t first_token = 0;  // in the source's stream
  };
  Place place_of(int64_t sample) const;

 private:
  struct Source {
    ShardSet set;
    int64_t num_rows = 0;
    int64_t max_offset = 0;
    uint64_t share = 0;  // of what the sources before it leave over, in units of 2^-32
  };

  Loader() = default;

  LoaderOptions options_;
  std::vector<Source> sources_;
};

}  // namespace colossus
