#include "data/tokenize_crew.h"

namespace colossus {
namespace {

void tokenize_batch(const TokenizeFunction& tokenize, TokenBatch& batch) {
  for (const SplitPart& part : batch.parts) {
    batch.status = tokenize(part.text, batch.tokens);
    if (!batch.status.ok()) return;
    batch.part_ends.push_back(batch.tokens.size());
  }
}

}  // namespace

TokenizeCrew::TokenizeCrew(int num_threads, const TokenizeFunction& tokenize) : tokenize_(tokenize) {
  for (int i = 0; i < std::max(num_threads, 1); ++i) threads_.emplace_back([this] { work(); });
}

TokenizeCrew::~TokenizeCrew() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    to_do_.clear();
  }
  something_to_do_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void TokenizeCrew::give(std::unique_ptr<TokenBatch> batch) {
  ordered_.push_back(std::make_unique<Job>());
  ordered_.back()->batch = std::move(batch);
  {
    const std::lock_guard lock(mutex_);
    to_do_.push_back(ordered_.back().get());
  }
  something_to_do_.notify_one();
}

std::unique_ptr<TokenBatch> TokenizeCrew::take() {
  CHECK(!ordered_.empty());
  {
    std::unique_lock lock(mutex_);
    something_done_.wait(lock, [&] { return ordered_.front()->done; });
  }
  auto batch = std::move(ordered_.front()->batch);
  ordered_.pop_front();
  return batch;
}

void TokenizeCrew::work() {
  while (true) {
    Job* job = nullptr;
    {
      std::unique_lock lock(mutex_);
      something_to_do_.wait(lock, [&] { return stop_ || !to_do_.empty(); });
      if (stop_) return;
      job = to_do_.front();
      to_do_.pop_front();
    }
    tokenize_batch(tokenize_, *job->batch);
    {
      const std::lock_guard lock(mutex_);
      job->done = true;
    }
    something_done_.notify_one();
  }
}

}  // namespace colossus
