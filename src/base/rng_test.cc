#include "base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace colossus {
namespace {

// Known answers of Philox 4x32-10 (Random123, kat_vectors).
TEST(Philox, KnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Every part of the key, and the index, makes another stream.
TEST(Rng, StreamsDiffer) {
  const RngKey key{.seed = 1, .purpose = RngPurpose::kInit, .step = 2};
  RngKey seed = key, high_seed = key, purpose = key, step = key, high_step = key;
  seed.seed = 2;
  high_seed.seed += uint64_t{1} << 32;
  purpose.purpose = RngPurpose::kDropout;
  step.step = 3;
  high_step.step += uint64_t{1} << 40;
  std::set<std::array<uint32_t, 4>> blocks;
  for (const RngKey& each : {key, seed, high_seed, purpose, step, high_step})
    for (const uint64_t index : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32}) blocks.insert(random_block(each, index));
  EXPECT_EQ(blocks.size(), 18u);
  for (uint64_t i = 0; i < 12; ++i) EXPECT_EQ(random_bits(key, i), random_block(key, i / 4)[i % 4]);
}

TEST(Rng, Distributions) {
  constexpr int kCount = 100000;
  const RngKey key{.seed = 9};
  double uniform = 0, normal = 0, square = 0, fourth = 0, neighbours = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = static_cast<double>(random_uniform(key, static_cast<uint64_t>(i)));
    ASSERT_TRUE(u >= 0 && u < 1);
    const double z = static_cast<double>(random_normal(key, static_cast<uint64_t>(i)));
    ASSERT_TRUE(std::isfinite(z));
    uniform += u;
    normal += z;
    square += z * z;
    fourth += z * z * z * z;
    neighbours += z * static_cast<double>(random_normal(key, static_cast<uint64_t>(i) + 1));
  }
  EXPECT_NEAR(uniform / kCount, 0.5, 0.005);
  EXPECT_NEAR(normal / kCount, 0, 0.02);
  EXPECT_NEAR(square / kCount, 1, 0.02);
  EXPECT_NEAR(fourth / kCount, 3, 0.15);
  EXPECT_NEAR(neighbours / kCount, 0, 0.02);
}

TEST(Permute, IsAPermutation) {
  for (const uint64_t size : {1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097}) {
    const RngKey key{.seed = 4, .purpose = RngPurpose::kDataOrder};
    std::vector<bool> seen(size, false);
    uint64_t fixed = 0;
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t to = permute(key, i, size);
      ASSERT_LT(to, size);
      ASSERT_FALSE(seen[to]) << size;
      seen[to] = true;
      fixed += to == i;
    }
    if (size >= 100) {
      EXPECT_LT(fixed, 10u) << size;
    }
  }
  EXPECT_LT(permute({.seed = 1}, 12345, uint64_t{1} << 40), uint64_t{1} << 40);
}

TEST(Permute, KeysGiveOtherOrders) {
  int same = 0;
  for (uint64_t i = 0; i < 1000; ++i) same += permute({.seed = 1}, i, 1000) == permute({.seed = 2}, i, 1000);
  EXPECT_LT(same, 12);
}

}  // namespace
}  // namespace colossus
