// Threads that tokenize batches of text; the batches come back in the order they went in. Internal to build.cc.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "data/split_rule.h"

namespace colossus {

struct TokenBatch {
  std::vector<SplitPart> parts;
  int64_t text_bytes = 0;
  std::vector<int32_t> tokens;    // of all parts
  std::vector<size_t> part_ends;  // in tokens
  Status status;
};

// One thread gives and takes; memory is bounded by how many batches it lets be on their way.
class TokenizeCrew {
 public:
  TokenizeCrew(int num_threads, const TokenizeFunction& tokenize);
  ~TokenizeCrew();  // what is on its way is finished and dropped
  TokenizeCrew(const TokenizeCrew&) = delete;
  TokenizeCrew& operator=(const TokenizeCrew&) = delete;

  size_t num_waiting() const { return ordered_.size(); }
  void give(std::unique_ptr<TokenBatch> batch);
  std::unique_ptr<TokenBatch> take();  // waits for the oldest one; there must be one

 private:
  struct Job {
    std::unique_ptr<TokenBatch> batch;
    bool done = false;
  };
  void work();

  const TokenizeFunction& tokenize_;
  std::deque<std::unique_ptr<Job>> ordered_;  // touched by the giving thread only
  std::mutex mutex_;
  std::condition_variable something_to_do_, something_done_;
  std::deque<Job*> to_do_;  // under mutex_, as every done flag
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace colossus
