#include "device/cpu/comm_lanes.h"

#include "base/platform.h"

namespace colossus {

CommLanes::~CommLanes() {
  for (auto& [group, lane] : lanes_) {
    {
      const std::lock_guard lock(lane->mutex);
      lane->stopping = true;
    }
    lane->wake.notify_one();
    lane->thread.join();
  }
}

void CommLanes::post(RankGroup group, std::function<void()> job) {
  std::unique_ptr<Lane>& lane = lanes_[group];
  if (!lane) {
    lane = std::make_unique<Lane>();
    lane->thread = std::thread([&lane = *lane] { run(lane); });
  }
  {
    const std::lock_guard lock(lane->mutex);
    lane->jobs.push_back(std::move(job));
  }
  lane->wake.notify_one();
}

bool CommLanes::run_here(RankGroup group, FunctionRef<void()> job) {
  if (const auto found = lanes_.find(group); found != lanes_.end()) {
    // Nobody else posts, so what is idle now stays so. The lock also makes visible here what the last job left.
    const std::lock_guard lock(found->second->mutex);
    if (found->second->running || !found->second->jobs.empty()) return false;
  }
  job();
  return true;
}

void CommLanes::run(Lane& lane) {
  flush_denormals();  // sums here have the bits of sums elsewhere
  std::unique_lock lock(lane.mutex);
  while (true) {
    lane.wake.wait(lock, [&] { return lane.stopping || !lane.jobs.empty(); });
    if (lane.jobs.empty()) return;
    const std::function<void()> job = std::move(lane.jobs.front());
    lane.jobs.pop_front();
    lane.running = true;
    lock.unlock();
    job();
    lock.lock();
    lane.running = false;
  }
}

}  // namespace colossus
