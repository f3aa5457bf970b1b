#include "train/optimizer_config.h"

#include <gtest/gtest.h>

namespace colossus {
namespace {

constexpr int64_t kSteps = 1000;

OptimizerConfig schedule(Decay decay) {
  return {.decay = decay, .warmup_steps = 100, .decay_share = 0.25, .final_share = 0.1};
}

class Schedules : public testing::TestWithParam<Decay> {};

TEST_P(Schedules, RiseToOneAndEndAtTheFinalShare) {
  const OptimizerConfig config = schedule(GetParam());
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 0, kSteps), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 49, kSteps), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 99, kSteps), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(config, 100, kSteps), 1);
  EXPECT_NEAR(learning_rate_factor(config, kSteps - 1, kSteps), GetParam() == Decay::kConstant ? 1 : 0.1, 1e-12);
  double last = 1;
  for (int64_t step = 100; step < kSteps; ++step) {
    const double factor = learning_rate_factor(config, step, kSteps);
    EXPECT_LE(factor, last) << step;
    last = factor;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Schedules,
                         testing::Values(Decay::kConstant, Decay::kCosine, Decay::kLinear, Decay::kWarmupStableDecay));

TEST(Schedule, Forms) {
  // Half way between step 100 and step 999.
  EXPECT_NEAR(learning_rate_factor(schedule(Decay::kLinear), 549, kSteps), 0.55, 1e-3);
  EXPECT_NEAR(learning_rate_factor(schedule(Decay::kCosine), 549, kSteps), 0.55, 1e-3);
  // A quarter: a cosine is still high.
  EXPECT_NEAR(learning_rate_factor(schedule(Decay::kLinear), 325, kSteps), 0.775, 1e-3);
  EXPECT_NEAR(learning_rate_factor(schedule(Decay::kCosine), 325, kSteps), 0.1 + 0.9 * 0.8536, 1e-3);
  // Flat until the last quarter.
  EXPECT_DOUBLE_EQ(learning_rate_factor(schedule(Decay::kWarmupStableDecay), 750, kSteps), 1);
  EXPECT_LT(learning_rate_factor(schedule(Decay::kWarmupStableDecay), 752, kSteps), 1);
  EXPECT_NEAR(learning_rate_factor(schedule(Decay::kWarmupStableDecay), 875, kSteps), 0.55, 2e-3);
}

TEST(Schedule, OddLengths) {
  for (const Decay decay : {Decay::kConstant, Decay::kCosine, Decay::kLinear, Decay::kWarmupStableDecay}) {
    // No warm-up; a run of one step; a warm-up longer than the run; no decay phase at all.
    EXPECT_DOUBLE_EQ(learning_rate_factor({.decay = decay, .warmup_steps = 0}, 0, 1), 1);
    EXPECT_DOUBLE_EQ(learning_rate_factor({.decay = decay, .warmup_steps = 10}, 4, 5), 0.5);
    for (int64_t step = 0; step < 20; ++step) {
      const double factor =
          learning_rate_factor({.decay = decay, .warmup_steps = 3, .decay_share = 0, .final_share = 0}, step, 20);
      EXPECT_TRUE(factor >= 0 && factor <= 1) << step;
    }
  }
}

}  // namespace
}  // namespace colossus
