#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>

namespace colossus {
namespace {

TEST(ThreadPool, RunsEveryPartOnItsOwnThread) {
  for (const int num_threads : {1, 2, 3, 5}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<int> runs(static_cast<size_t>(num_threads), 0);
      std::vector<std::thread::id> ids(static_cast<size_t>(num_threads));
      pool.run([&](int part) {
        ++runs[static_cast<size_t>(part)];
        ids[static_cast<size_t>(part)] = std::this_thread::get_id();
      });
      EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(num_threads), 1));
      EXPECT_EQ(ids[0], std::this_thread::get_id());
      EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), ids.size());
    }
  }
}

TEST(ThreadPool, RangesCoverTheWorkOnce) {
  for (const int num_threads : {1, 2, 3}) {
    ThreadPool pool(num_threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 100, 1001})
      for (const int64_t grain : {1, 3, 16, 5000}) {
        std::mutex mutex;
        std::vector<std::pair<int64_t, int64_t>> ranges;
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          const std::lock_guard lock(mutex);
          ranges.emplace_back(begin, end);
        });
        std::sort(ranges.begin(), ranges.end());
        int64_t at = 0;
        for (const auto& [begin, end] : ranges) {
          EXPECT_EQ(begin, at) << count << " by " << grain;
          EXPECT_LT(begin, end);
          EXPECT_TRUE(end % grain == 0 || end == count);
          at = end;
        }
        EXPECT_EQ(at, count);
        EXPECT_LE(static_cast<int>(ranges.size()), num_threads);
        if (count >= grain * num_threads) {
          EXPECT_EQ(static_cast<int>(ranges.size()), num_threads);
        }
      }
  }
}

}  // namespace
}  // namespace colossus
