// Ranks as threads of a test: each with a device of its own and its ends of the groups.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "comm/rank_groups.h"
#include "device/cpu/cpu_device.h"

namespace colossus {

// Runs `body` once for each of `count` ranks, side by side; `groups` are built of threads. Every rank is in one group
// along `axes` with all others.
inline void run_ranks(int count, RankGroup group, const std::function<void(int rank, Device&, RankGroups&)>& body,
                      const CpuOptions& options = {.num_threads = 1, .pin = false}, double timeout_seconds = 60) {
  auto ends = make_thread_group({.name = group.name(), .size = count, .timeout_seconds = timeout_seconds});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] {
      RankGroups groups;
      groups.set(group, std::move(ends[static_cast<size_t>(rank)]));
      const auto device = make_cpu_device(options);
      ASSERT_TRUE(device.ok());
      body(rank, **device, groups);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace colossus
