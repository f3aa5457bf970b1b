// Ranks as threads of a test: each with a device of its own and its ends of the groups.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <thread>

#include "comm/rank_groups.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"

namespace colossus {

enum class RankDevice { kCpu, kThreeThreads, kReference, kGpu };
inline constexpr std::array kRankDevices = {RankDevice::kCpu, RankDevice::kThreeThreads, RankDevice::kReference,
                                     RankDevice::kGpu};

// Each rank has a GPU of its own: on a machine with fewer there is none for the test.
inline Result<std::unique_ptr<Device>> make_rank_device(RankDevice device, int rank) {
  if (device == RankDevice::kGpu) return make_cuda_device({.index = rank});
  return make_cpu_device({.num_threads = device == RankDevice::kThreeThreads ? 3 : 1,
                          .pin = false,
                          .reference = device == RankDevice::kReference});
}

// Runs `body` once for each of `count` ranks, side by side; `groups` are built of threads. Every rank is in one group
// along `axes` with all others.
inline void run_ranks(int count, RankGroup group, const std::function<void(int rank, Device&, RankGroups&)>& body,
                      RankDevice rank_device = RankDevice::kCpu, double timeout_seconds = 60) {
  if (rank_device == RankDevice::kGpu && !make_rank_device(rank_device, count - 1).ok()) return;
  auto ends = make_thread_group({.name = group.name(), .size = count, .timeout_seconds = timeout_seconds});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] {
      RankGroups groups;
      groups.set(group, std::move(ends[static_cast<size_t>(rank)]));
      const auto device = make_rank_device(rank_device, rank);
      ASSERT_TRUE(device.ok()) << device.status().message();
      body(rank, **device, groups);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace colossus
