#include "text/piece_counts.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "text/added_tokens.h"
#include "text/hash_bytes.h"

namespace colossus {

namespace {

constexpr size_t kNumShards = 16;  // by the hash's top bits; also the most threads that merge counts
constexpr int64_t kRoundBytes = int64_t{64} << 20;
constexpr size_t kBatchBytes = size_t{1} << 20;

size_t shard_of(uint32_t hash) { return hash >> 28; }
static_assert(kNumShards == 1 << 4);

using Batch = std::vector<std::string>;  // documents

// Threads that count batches, each into shards of its own, which collect() adds to the common ones.
class Counters {
 public:
  explicit Counters(const CountOptions& options) : split_(split_function(options.pattern)) {
    std::vector<AddedToken> specials;
    for (const std::string& text : options.special_tokens) specials.push_back({.id = 0, .text = text, .special = true});
    finder_ = AddedTokenFinder(specials);
    locals_.resize(std::max(options.num_threads, 1));
    for (Shards& local : locals_) threads_.emplace_back([this, &local] { count_batches(local); });
  }

  ~Counters() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Waits while enough work lies ready, so that memory stays bounded when reading is faster than counting.
  void push(Batch batch) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return batches_.size() < threads_.size() + 1; });
    batches_.push_back(std::move(batch));
    wake_.notify_one();
  }

  // Waits until all batches are counted, then moves the counts into `shards`.
  void collect(std::vector<PieceCounts>& shards) {
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [this] { return batches_.empty() && num_working_ == 0; });
    }
    std::vector<std::thread> crew;
    for (size_t part = 0; part < locals_.size(); ++part) {
      crew.emplace_back([&, part] {
        for (size_t shard = part; shard < kNumShards; shard += locals_.size()) {
          for (Shards& local : locals_) {
            local[shard].for_each(
                [&](std::string_view piece, int64_t count, uint32_t hash) { shards[shard].add(piece, count, hash); });
            local[shard].clear();
          }
        }
      });
    }
    for (std::thread& thread : crew) thread.join();
  }

 private:
  using Shards = std::array<PieceCounts, kNumShards>;

  void count_batches(Shards& counts) {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return stop_ || !batches_.empty(); });
      if (batches_.empty()) return;
      const Batch batch = std::move(batches_.front());
      batches_.pop_front();
      ++num_working_;
      room_.notify_all();
      lock.unlock();
      for (const std::string& document : batch) count_document(document, counts);
      lock.lock();
      --num_working_;
      room_.notify_all();
    }
  }

  void count_document(std::string_view text, Shards& counts) const {
    for (size_t begin = 0; begin < text.size();) {
      const auto special = finder_.find(text, begin, true);
      const std::string_view part = text.substr(0, special ? special->begin : text.size());
      for_each_piece(split_, part, begin, [&](size_t piece_begin, size_t piece_end) {
        const std::string_view piece = part.substr(piece_begin, piece_end - piece_begin);
        const uint32_t hash = PieceCounts::hash_of(piece);
        counts[shard_of(hash)].add(piece, 1, hash);
      });
      begin = special ? special->end : part.size();
    }
  }

  SplitFunction split_;
  AddedTokenFinder finder_;
  std::vector<Shards> locals_;  // one per thread
  std::mutex mutex_;
  std::condition_variable wake_;  // a batch is there, or stop
  std::condition_variable room_;  // a batch was taken or finished
  std::deque<Batch> batches_;
  size_t num_working_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

// The smallest power of two, less one, such that forgetting pieces up to that count meets `max_bytes`.
int64_t forgetting_threshold(const std::vector<PieceCounts>& shards, int64_t max_bytes) {
  std::array<int64_t, 64> bytes_by_log{};  // [i]: training bytes of pieces with 2^i <= count < 2^(i+1)
  int64_t total = 0;
  for (const PieceCounts& shard : shards) {
    shard.for_each([&](std::string_view piece, int64_t count, uint32_t) {
      const int64_t bytes = training_bytes(1, piece.size());
      bytes_by_log[63 - __builtin_clzll(static_cast<uint64_t>(count))] += bytes;
      total += bytes;
    });
  }
  if (total <= max_bytes) return 0;
  size_t log = 0;
  for (; total > max_bytes / 2 && log < 62; ++log) total -= bytes_by_log[log];
  return (int64_t{1} << log) - 1;
}

}  // namespace

uint32_t PieceCounts::hash_of(std::string_view piece) { return static_cast<uint32_t>(hash_bytes(piece) >> 32); }

void PieceCounts::add(std::string_view piece, int64_t count, uint32_t hash) {
  if (slots_.size() < 2 * (entries_.size() + 1)) rebuild_slots(std::max<size_t>(64, 2 * slots_.size()));
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    if (slots_[slot] == kEmpty) {
      slots_[slot] = static_cast<uint32_t>(entries_.size());
      entries_.push_back({bytes_.size(), static_cast<uint32_t>(piece.size()), hash, count});
      bytes_ += piece;
      return;
    }
    Entry& entry = entries_[slots_[slot]];
    if (entry.hash == hash && std::string_view(bytes_).substr(entry.offset, entry.length) == piece) {
      entry.count += count;
      return;
    }
  }
}

void PieceCounts::rebuild_slots(size_t capacity) {
  slots_.assign(capacity, kEmpty);
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    size_t slot = entries_[i].hash & (capacity - 1);
    while (slots_[slot] != kEmpty) slot = (slot + 1) & (capacity - 1);
    slots_[slot] = i;
  }
}

void PieceCounts::for_each(FunctionRef<void(std::string_view, int64_t, uint32_t)> visit) const {
  const std::string_view bytes = bytes_;
  for (const Entry& entry : entries_) visit(bytes.substr(entry.offset, entry.length), entry.count, entry.hash);
}

void PieceCounts::remove_up_to(int64_t count) {
  PieceCounts kept;
  for_each([&](std::string_view piece, int64_t piece_count, uint32_t hash) {
    if (piece_count > count) kept.add(piece, piece_count, hash);
  });
  *this = std::move(kept);
}

void PieceCounts::clear() { *this = PieceCounts(); }

Result<PieceCountResult> count_pieces(const CountOptions& options, DocumentSource documents,
                                      FunctionRef<void(int64_t)> progress) {
  PieceCountResult result;
  result.shards.resize(kNumShards);
  Counters counters(options);
  int64_t round_bytes = 0;
  const auto end_round = [&] {
    counters.collect(result.shards);
    round_bytes = 0;
    const int64_t threshold = forgetting_threshold(result.shards, options.max_memory_bytes);
    result.forgotten_up_to = std::max(result.forgotten_up_to, threshold);
    if (threshold == 0) return;
    for (PieceCounts& shard : result.shards) shard.remove_up_to(threshold);
  };

  Batch batch;
  size_t batch_bytes = 0;
  const auto push_batch = [&] {
    counters.push(std::move(batch));
    batch = {};
    batch_bytes = 0;
    progress(result.num_bytes);
  };
  RETURN_IF_ERROR(documents([&](std::string_view document) {
    if (document.size() > 0xFFFFFFFE) {
      return exhausted("a document of 4 GB or more cannot be taken whole; the source must cut it into parts");
    }
    ++result.num_documents;
    result.num_bytes += static_cast<int64_t>(document.size());
    round_bytes += static_cast<int64_t>(document.size());
    batch_bytes += document.size();
    batch.emplace_back(document);
    // A round ends by what was read alone, wherever batches end: that is what makes forgetting deterministic.
    if (batch_bytes >= kBatchBytes || round_bytes >= kRoundBytes) push_batch();
    if (round_bytes >= kRoundBytes) end_round();
    return ok_status();
  }));
  push_batch();
  end_round();
  return result;
}

}  // namespace colossus
