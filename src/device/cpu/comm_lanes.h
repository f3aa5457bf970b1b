// Threads beside the compute lane: one for each group of ranks, which runs that group's operations in the order they
// were posted. An operation that the compute lane would do nothing but wait for needs no thread of its own: two changes
// of threads, and what a cache has lost by them, cost more than a short message.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "base/function_ref.h"
#include "tensor/placement.h"

namespace colossus {

class CommLanes {
 public:
  CommLanes() = default;
  ~CommLanes();
  CommLanes(const CommLanes&) = delete;
  CommLanes& operator=(const CommLanes&) = delete;

  // Runs `job` on the lane's thread, behind all that were posted there before. The thread starts with the first job.
  void post(RankGroup lane, std::function<void()> job);
  // False where the lane still has jobs, or runs one; else runs `job` on this thread, as the lane's.
  bool run_here(RankGroup lane, FunctionRef<void()> job);

 private:
  struct Lane {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> jobs;
    bool stopping = false, running = false;
    std::thread thread;
  };

  static void run(Lane& lane);

  std::map<RankGroup, std::unique_ptr<Lane>> lanes_;  // touched by the compute lane's thread alone
};

}  // namespace colossus
