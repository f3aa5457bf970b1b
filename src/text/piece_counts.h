// How often each piece of a corpus occurs: all that byte-pair training needs to know of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "text/splitter.h"

namespace colossus {

// A document source calls its sink once per document, in a fixed order, and passes on an error that the sink returns.
// No piece crosses from one document into the next. A document is held in memory whole, so sources of unbounded ones
// cut them, best at line ends.
using DocumentSink = FunctionRef<Status(std::string_view document)>;
using DocumentSource = FunctionRef<Status(DocumentSink sink)>;

class PieceCounts {
 public:
  void add(std::string_view piece, int64_t count) { add(piece, count, hash_of(piece)); }
  // For callers that have the piece's hash_of() already.
  void add(std::string_view piece, int64_t count, uint32_t hash);
  static uint32_t hash_of(std::string_view piece);

  size_t num_pieces() const { return entries_.size(); }
  size_t num_bytes() const { return bytes_.size(); }  // of all distinct pieces
  void for_each(FunctionRef<void(std::string_view piece, int64_t count, uint32_t hash)> visit) const;
  void remove_up_to(int64_t count);  // forgets pieces that occur that often or less
  void clear();

 private:
  struct Entry {
    uint64_t offset;  // in bytes_
    uint32_t length;
    uint32_t hash;
    int64_t count;
  };
  static constexpr uint32_t kEmpty = 0xFFFFFFFF;

  void rebuild_slots(size_t capacity);

  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // indices into entries_, open addressing, at most half full
};

struct CountOptions {
  SplitPattern pattern = SplitPattern::kCl100k;
  std::vector<std::string> special_tokens = {};  // cut out of the text; no piece touches them
  int num_threads = 1;
  // Bound on what byte-pair training would take for these counts (training_bytes). After every kRoundBytes of text, if
  // it is exceeded, the rarest pieces are forgotten until half of it remains: all of one count go, or none. So the
  // result is a function of the documents in their order, never of threads or time.
  int64_t max_memory_bytes = int64_t{768} << 20;
};

struct PieceCountResult {
  std::vector<PieceCounts> shards;  // a piece is in one of them
  int64_t num_documents = 0;
  int64_t num_bytes = 0;
  int64_t forgotten_up_to = 0;  // pieces as rare as this may have been forgotten
};

// Memory that BpeMerger takes for so many distinct pieces of so many bytes.
constexpr int64_t training_bytes(size_t num_pieces, size_t num_bytes) {
  return static_cast<int64_t>(48 * num_pieces + 28 * num_bytes);
}

// `progress` is told the bytes read so far, on the calling thread.
Result<PieceCountResult> count_pieces(const CountOptions& options, DocumentSource documents,
                                      FunctionRef<void(int64_t bytes_read)> progress);

}  // namespace colossus
