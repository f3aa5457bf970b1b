// A fixed crew of threads for fork-join work inside a step. No allocation, no lock, no work stealing: part i of n is
// always the same work, and results must not depend on n (see docs/numerics.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/function_ref.h"

namespace colossus {

class ThreadPool {
 public:
  // num_threads counts the caller: ThreadPool(1) starts no thread. pin: worker i
  // stays on the i-th usable core, if there is one core for each thread.
  explicit ThreadPool(int num_threads, bool pin = true);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls work(part) for part in 0..num_threads-1, each on its own thread (part 0 on the caller's), and waits.
  // One caller at a time; not from inside work.
  void run(FunctionRef<void(int part)> work);

  // Cuts 0..count-1 into num_threads contiguous ranges (multiples of `grain` but for the last) and calls
  // work(begin, end) for the non-empty ones.
  void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> work);

 private:
  void worker(int part, int core);

  const int num_threads_;
  std::vector<std::thread> threads_;
  const FunctionRef<void(int)>* work_ = nullptr;  // written before epoch_ is released, read after it is acquired
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<uint32_t> epoch_ = 0;    // workers wait for it to move
  alignas(64) std::atomic<uint32_t> pending_ = 0;  // workers not yet done with this epoch
};

}  // namespace colossus
