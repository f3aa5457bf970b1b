#include "train/recovery/range_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/rng.h"

namespace colossus {
namespace {

TEST(RangeMap, IsWhatAVectorIs) {
  const RngKey key{.seed = 11};
  uint64_t drawn = 0;
  const auto draw = [&](int below) {
    return static_cast<int>(random_bits(key, drawn++) % static_cast<uint32_t>(below));
  };
  for (int trial = 0; trial < 50; ++trial) {
    int size = 1 + draw(20);
    RangeMap<int> map(size, 0);
    std::vector<int> plain(static_cast<size_t>(size), 0);
    for (int change = 0; change < 100; ++change) {
      const int begin = draw(size), end = begin + draw(size - begin + 1), value = draw(3);
      const auto from = plain.begin() + begin, to = plain.begin() + end;
      switch (draw(4)) {
        case 0:
          map.assign(begin, end, value);
          std::fill(from, to, value);
          break;
        case 1:
          map.update(begin, end, [&](int& old) { old = (old + value) % 3; });
          std::for_each(from, to, [&](int& old) { old = (old + value) % 3; });
          break;
        case 2: {
          const int target = draw(size - (end - begin) + 1);
          const std::vector<int> taken(from, to);
          map.copy(begin, target, end - begin);
          std::copy(taken.begin(), taken.end(), plain.begin() + target);
          break;
        }
        default:
          size = 1 + draw(20);
          map.resize(size, value);
          plain.resize(static_cast<size_t>(size), value);
      }
      int next = 0, runs = 0;
      map.for_each([&](int first, int last, int held) {
        EXPECT_EQ(first, next);
        EXPECT_LT(first, last);
        EXPECT_TRUE(first == 0 || plain[static_cast<size_t>(first - 1)] != held) << "runs were not joined";
        for (next = first; next < last; ++next) EXPECT_EQ(plain[static_cast<size_t>(next)], held);
        ++runs;
      });
      ASSERT_EQ(next, size);
      EXPECT_EQ(runs, map.num_runs());
      const int index = draw(size);
      EXPECT_EQ(map.at(index), plain[static_cast<size_t>(index)]);
    }
  }
}

}  // namespace
}  // namespace colossus
