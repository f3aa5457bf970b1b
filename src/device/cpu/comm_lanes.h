// Threads beside the compute lane: one for each group of ranks, which runs that group's operations in the order they
// were posted.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

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

 private:
  struct Lane {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> jobs;
    bool stopping = false;
    std::thread thread;
  };

  static void run(Lane& lane);

  std::map<RankGroup, std::unique_ptr<Lane>> lanes_;  // touched by the compute lane's thread alone
};

}  // namespace colossus
