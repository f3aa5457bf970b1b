// Text to token shards: read, set validation apart, tokenize on all cores, write. The result does not depend on the
// number of threads, and the directory holds the old build or the new one at every moment.
//
// How validation is set apart (ShardIndex::split_rule says which of the two it was):
//   1000 documents or more: a document is held out when a hash of its text says so, so documents with the same text
//     are never on both sides;
//   fewer: the last part of each document is, cut by bytes before a whole UTF-8 character. One file of text with
//   fraction 0.1:
//     the first floor(0.9 * bytes) are for training.
#pragma once

#include <functional>

#include "base/function_ref.h"
#include "data/document_reader.h"
#include "data/shard_set.h"

namespace colossus {

// Appends the tokens of `text` and nothing else (no begin or end token). Called from several threads at once.
using TokenizeFunction = std::function<Status(std::string_view text, std::vector<int32_t>& tokens)>;

struct BuildOptions {
  std::vector<std::string> inputs;
  std::string out;  // the directory of shards
  SourceOptions source;
  ShardIdentity identity;                       // of the tokenizer
  std::optional<int32_t> bos_token, eos_token;  // put before and behind each document
  std::optional<double> validation_fraction;    // unset: 0.1 of few documents, 0.02 of many
  int num_threads = 1;
  int64_t shard_tokens = int64_t{128} << 20;  // a shard is closed at the first document end beyond
};

struct BuildProgress {
  bool counting = false;  // the first, short pass that finds out whether documents are few
  int64_t consumed_bytes = 0, total_bytes = 0;
  int64_t num_documents = 0, num_tokens = 0;
};

struct BuildReport {
  ShardIndex index;
  SourceCounts counts;
  std::string note;  // something that went well but should be known; may be empty
};

// `progress` is called many times a second on the calling thread; false stops the build (kInterrupted). Whatever the
// error, what the directory held before is still there and nothing else is left.
Result<BuildReport> build_shards(FileSystem& files, const BuildOptions& options, const TokenizeFunction& tokenize,
                                 FunctionRef<bool(const BuildProgress&)> progress);

}  // namespace colossus
