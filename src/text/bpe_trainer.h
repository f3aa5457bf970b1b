// Tokenizers from text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "text/piece_counts.h"
#include "text/tokenizer.h"

namespace colossus {

struct BpeTrainOptions {
  int vocab_size = 32768;  // special tokens, the 256 bytes, then merges
  SplitPattern pattern = SplitPattern::kCl100k;
  std::vector<std::string> special_tokens = {};   // ids 0, 1, ... in this order; cut out of the training text
  int num_threads = 0;                            // 0: all usable cores; the result does not depend on it
  int64_t min_count = 2;                          // pairs rarer than this are never merged
  int64_t max_memory_bytes = int64_t{768} << 20;  // see CountOptions
};

struct TrainProgress {
  enum class Phase { kReading, kMerging };
  Phase phase = Phase::kReading;
  int64_t done = 0;   // bytes read, or merges made
  int64_t total = 0;  // merges to make; 0 while reading: the source alone knows
};
using TrainProgressSink = FunctionRef<void(const TrainProgress&)>;

struct TrainedTokenizer {
  Tokenizer tokenizer;
  int64_t num_documents = 0;
  int64_t num_bytes = 0;
  int64_t num_distinct_pieces = 0;
  int64_t forgotten_up_to = 0;  // see PieceCountResult
};

// Byte-level byte-pair encoding. Ids: special tokens, bytes in the order of the byte alphabet, merges by rank. Of pairs
// that occur equally often, the one with the greatest left token, then the greatest right token (as bytes) is merged
// first. The vocabulary is smaller than asked for where the text has no more pairs to merge.
Result<TrainedTokenizer> train_bpe(const BpeTrainOptions& options, DocumentSource documents,
                                   TrainProgressSink progress);

// One token per distinct character, in the order of code points, after the special tokens. The text must be UTF-8.
Result<TrainedTokenizer> train_characters(const std::vector<std::string>& special_tokens, DocumentSource documents,
                                          TrainProgressSink progress);

}  // namespace colossus
