#include "base/thread_pool.h"

#include <immintrin.h>

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "base/platform.h"

namespace colossus {
namespace {

// Spinning covers the gaps between the operations of a step (a microsecond or so each); longer waits sleep in the
// kernel, so that an idle pool costs nothing and two processes on one machine do not starve each other. Yielding in
// between was slower: beside a busy process of any priority a yield costs a scheduler tick.
constexpr int kSpins = 20'000;

// Waits until value != old; returns the new value.
uint32_t wait_change(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    _mm_pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads, bool pin) : num_threads_(num_threads) {
  CHECK(num_threads >= 1);
  const std::vector<int> cores = usable_cores();
  // The caller floats: threads it makes later would inherit its core.
  const bool pinned = pin && static_cast<int>(cores.size()) == num_threads;
  flush_denormals();
  for (int part = 1; part < num_threads; ++part)
    threads_.emplace_back([this, part, core = pinned ? cores[static_cast<size_t>(part)] : -1] { worker(part, core); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::worker(int part, int core) {
  flush_denormals();
  if (core >= 0) pin_this_thread(core);
  uint32_t seen = 0;
  while (true) {
    seen = wait_change(epoch_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    (*work_)(part);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
  }
}

void ThreadPool::run(FunctionRef<void(int)> work) {
  if (num_threads_ == 1) return work(0);
  work_ = &work;
  pending_.store(static_cast<uint32_t>(num_threads_ - 1), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(0);
  for (uint32_t left = pending_.load(std::memory_order_acquire); left != 0;) left = wait_change(pending_, left);
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t)> work) {
  DCHECK(grain >= 1);
  const int64_t num_grains = (count + grain - 1) / grain;
  if (num_grains <= 1 || num_threads_ == 1) {
    if (count > 0) work(0, count);
    return;
  }
  run([&](int part) {
    const int64_t begin = num_grains * part / num_threads_ * grain;
    const int64_t end = std::min(count, num_grains * (part + 1) / num_threads_ * grain);
    if (begin < end) work(begin, end);
  });
}

}  // namespace colossus
