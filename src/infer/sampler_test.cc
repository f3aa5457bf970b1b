#include "infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace colossus {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
const std::vector<float> kLogits = {std::log(0.1F), std::log(0.4F), std::log(0.2F), std::log(0.05F), std::log(0.25F)};

// How often each token is drawn, over many positions.
std::vector<double> shares(const SamplerOptions& options, const std::vector<float>& logits, int draws = 20000) {
  Sampler sampler(options);
  std::vector<double> result(logits.size(), 0);
  std::vector<int32_t> history;
  for (int i = 0; i < draws; ++i) {
    result[static_cast<size_t>(sampler.sample(logits, history, 0))] += 1.0 / draws;
    history.push_back(-1);
  }
  return result;
}

void expect_shares(const SamplerOptions& options, const std::vector<double>& expected) {
  const auto got = shares(options, kLogits);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(got[i], 0) << "token " << i;
    } else {
      EXPECT_NEAR(got[i], expected[i], 0.015) << "token " << i;
    }
  }
}

TEST(Sampler, FollowsTheDistribution) {
  expect_shares({.temperature = 1}, {0.1, 0.4, 0.2, 0.05, 0.25});
  const double sum = 0.01 + 0.16 + 0.04 + 0.0025 + 0.0625;
  expect_shares({.temperature = 0.5}, {0.01 / sum, 0.16 / sum, 0.04 / sum, 0.0025 / sum, 0.0625 / sum});
  expect_shares({.temperature = 0}, {0, 1, 0, 0, 0});
}

TEST(Sampler, Cuts) {
  expect_shares({.temperature = 1, .top_k = 2}, {0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
  expect_shares({.temperature = 1, .top_k = 1}, {0, 1, 0, 0, 0});
  expect_shares({.temperature = 1, .top_k = 50}, {0.1, 0.4, 0.2, 0.05, 0.25});
  expect_shares({.temperature = 1, .top_p = 0.6}, {0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
  expect_shares({.temperature = 1, .top_p = 0.01}, {0, 1, 0, 0, 0});
  expect_shares({.temperature = 1, .min_p = 0.45}, {0, 0.4 / 0.85, 0.2 / 0.85, 0, 0.25 / 0.85});
  expect_shares({.temperature = 1, .min_p = 1}, {0, 1, 0, 0, 0});
  expect_shares({.temperature = 1, .top_k = 3, .top_p = 0.7, .min_p = 0.6}, {0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
}

TEST(Sampler, RepetitionPenaltyWeakensWhatWasSeen) {
  Sampler sampler({.temperature = 0, .repetition_penalty = 2, .repetition_window = 2});
  const std::vector<float> positive = {3, 4, 1}, negative = {-3, -2, -9};
  const std::vector<int32_t> none, last = {0, 0, 1}, long_ago = {1, 2, 2};
  EXPECT_EQ(sampler.sample(positive, none, 0), 1);
  EXPECT_EQ(sampler.sample(positive, last, 0), 1) << "both seen: 1.5 and 2";
  EXPECT_EQ(sampler.sample(positive, std::vector<int32_t>{2, 1}, 0), 0) << "4 / 2 is below 3";
  EXPECT_EQ(sampler.sample(positive, long_ago, 0), 1) << "outside the window";
  EXPECT_EQ(sampler.sample(negative, std::vector<int32_t>{2, 1}, 0), 0) << "-2 * 2 is below -3";
  EXPECT_EQ(sampler.sample(positive, std::vector<int32_t>{-5, 99}, 0), 1) << "foreign ids do not matter";
}

TEST(Sampler, IsAFunctionOfSeedSequenceAndPosition) {
  const auto draw = [](int64_t seed, int64_t sequence) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<int32_t> tokens;
    for (int i = 0; i < 40; ++i) {
      if (sequence == 1) static_cast<void>(sampler.sample(kLogits, tokens, 7));  // another sequence beside it
      tokens.push_back(sampler.sample(kLogits, tokens, sequence));
    }
    return tokens;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_EQ(draw(1, 1), draw(1, 1));
  EXPECT_EQ((std::set{draw(1, 0), draw(2, 0), draw(1, 1)}).size(), 3u);
}

TEST(Sampler, NeverChoosesWhatIsNotANumber) {
  const std::vector<float> some = {kNan, 1, kNan, 2};
  for (const double temperature : {0.0, 1.0}) {
    Sampler sampler({.temperature = temperature, .top_p = 0.9, .repetition_penalty = 1.5});
    for (int i = 0; i < 50; ++i) {
      const int32_t token = sampler.sample(some, std::vector<int32_t>(static_cast<size_t>(i), 2), 0);
      EXPECT_TRUE(token == 1 || token == 3);
    }
    EXPECT_EQ(sampler.sample(std::vector<float>(4, kNan), {}, 0), 0);
    EXPECT_EQ(sampler.sample(std::vector<float>{1, kInfinity, 2}, {}, 0), 1);
    EXPECT_EQ(sampler.sample(std::vector<float>{-kInfinity, 5, -kInfinity}, {}, 0), 1);
    EXPECT_GE(sampler.sample(std::vector<float>(3, -kInfinity), {}, 0), 0);
  }
}

TEST(Sampler, TiesGoToTheLowerToken) {
  Sampler greedy({.temperature = 0}), narrow({.temperature = 1, .top_k = 2});
  const std::vector<float> ties = {1, 3, 3, 3};
  EXPECT_EQ(greedy.sample(ties, {}, 0), 1);
  std::set<int32_t> seen;
  for (int i = 0; i < 100; ++i) seen.insert(narrow.sample(ties, std::vector<int32_t>(static_cast<size_t>(i), -1), 0));
  EXPECT_EQ(seen, (std::set<int32_t>{1, 2}));
}

}  // namespace
}  // namespace colossus
