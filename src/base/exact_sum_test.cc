#include "base/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>
#include <vector>

#include "base/platform.h"
#include "base/rng.h"

namespace colossus {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

ExactSum sum_of(const std::vector<double>& terms) {
  ExactSum sum;
  for (const double term : terms) sum.add(term);
  return sum;
}
uint32_t random(uint64_t index) { return random_bits({.seed = 7}, index); }

// Finite floats of all sizes and signs, denormals among them, and squares of floats.
std::vector<double> random_terms(size_t count) {
  std::vector<double> terms;
  for (uint64_t i = 0; terms.size() < count; ++i) {
    const auto number = static_cast<double>(std::bit_cast<float>(random(i)));
    if (std::isfinite(number)) terms.push_back(i % 2 == 0 ? number : number * number);
  }
  return terms;
}

TEST(ExactSum, OneTermComesBack) {
  EXPECT_EQ(ExactSum().value(), 0);
  for (const double term : random_terms(2000))
    for (const double x : {term, -term}) EXPECT_EQ(sum_of({x}).value(), x);
  for (int exponent = ExactSum::kLowestExponent; exponent < ExactSum::kHighestExponent; ++exponent) {
    const double power = std::ldexp(1.0, exponent), below = std::nextafter(power, 0);
    EXPECT_EQ(sum_of({power}).value(), power) << exponent;
    EXPECT_EQ(sum_of({-power}).value(), -power) << exponent;
    if (exponent > ExactSum::kLowestExponent + 52) {
      EXPECT_EQ(sum_of({below}).value(), below) << exponent;
    }
  }
}

// Sums of 62-bit integers times one power of two, against integers of 128 bits.
TEST(ExactSum, IsExactInWideIntegers) {
  __extension__ using Wide = __int128;
  for (const int exponent : {-298, -290, -170, -30, 0, 100, 230}) {
    ExactSum sum;
    Wide want = 0;
    for (uint64_t i = 0; i < 5000; ++i) {
      const int64_t term = static_cast<int64_t>((uint64_t{random(3 * i)} << 21) ^ random(3 * i + 1)) *
                           (random(3 * i + 2) % 2 == 0 ? 1 : -1);
      sum.add(std::ldexp(static_cast<double>(term), exponent));
      want += term;
      // The compiler's conversion rounds to nearest even.
      ASSERT_EQ(sum.value(), std::ldexp(static_cast<double>(want), exponent)) << i << " " << exponent;
    }
  }
}

TEST(ExactSum, RoundsOnceToNearestEven) {
  const double tiny = std::ldexp(1.0, -298), half = std::ldexp(1.0, -53);  // the ulp of 1 is 2 half
  const struct {
    std::vector<double> terms;
    double value;
  } cases[] = {
      {{1, half}, 1},
      {{1, half, tiny}, 1 + 2 * half},
      {{1, half, -tiny}, 1},
      {{1 + 2 * half, half}, 1 + 4 * half},
      {{1 + 2 * half, half, -tiny}, 1 + 2 * half},
      {{-1, -half, -tiny}, -1 - 2 * half},
      {{-1, -half}, -1},
      {{2 - 2 * half, half}, 2},  // carries into the next binade
      {{2 - 2 * half, half, -tiny}, 2 - 2 * half},
      {{1e60, tiny, -1e60}, tiny},
      {{1e60, 3, -1e60, -tiny}, 3},
      {{0x1p299, 0x1p299, 0x1p299, 0x1p299}, 0x1p301},
      {{0.1F, 0.2F, -0.1F, -0.2F}, 0},
      {{-0.0, 0.0}, 0},
  };
  for (const auto& [terms, value] : cases) {
    EXPECT_EQ(sum_of(terms).value(), value) << testing::PrintToString(terms);
    EXPECT_FALSE(value == 0 && std::signbit(sum_of(terms).value()));
  }
}

TEST(ExactSum, LargeTermsCancel) {
  std::vector<double> terms = random_terms(10000);
  const size_t half = terms.size();
  for (size_t i = 0; i < half; ++i) terms.push_back(-terms[(i * 7919) % half]);
  EXPECT_EQ(sum_of(terms).words(), ExactSum().words());
  terms.push_back(-0x1p-149);
  EXPECT_EQ(sum_of(terms).value(), -0x1p-149);
}

TEST(ExactSum, NeitherOrderNorPartsChangeABit) {
  std::vector<double> terms = random_terms(3000);
  terms.push_back(-std::accumulate(terms.begin(), terms.end(), 0.0));  // what is left is small
  const ExactSum want = sum_of(terms);
  for (uint64_t round = 0; round < 8; ++round) {
    std::vector<double> shuffled(terms.size());
    for (size_t i = 0; i < terms.size(); ++i) shuffled[permute({.seed = round}, i, terms.size())] = terms[i];
    const size_t num_parts = 1 + round * round;
    std::vector<ExactSum> parts(num_parts);
    for (size_t i = 0; i < shuffled.size(); ++i) parts[i * num_parts / shuffled.size()].add(shuffled[i]);
    ExactSum merged;
    ExactSum::Words added = {};
    for (const ExactSum& part : parts) {
      merged.add(part);
      const ExactSum::Words words = part.words();
      for (size_t i = 0; i < words.size(); ++i) added[i] += words[i];
    }
    for (const ExactSum& sum : {merged, ExactSum(added)}) {
      EXPECT_EQ(sum.words(), want.words()) << round;
      EXPECT_EQ(std::bit_cast<uint64_t>(sum.value()), std::bit_cast<uint64_t>(want.value())) << round;
    }
  }
}

TEST(ExactSum, WordsOfManyAddWithoutOverflow) {
  for (const double term : {std::nextafter(0x1p300, 0), -0x1p-298, -1.0, 1.0 / 3}) {
    ExactSum::Words words = sum_of({term}).words();
    for (int64_t& word : words) word *= int64_t{1} << 30;
    EXPECT_EQ(ExactSum(words).value(), std::ldexp(term, 30)) << term;
    words = ExactSum(words).words();
    for (int64_t& word : words) word *= int64_t{1} << 30;
    EXPECT_EQ(ExactSum(words).value(), std::ldexp(term, 60)) << term;
  }
}

// More terms than carries are put off for.
TEST(ExactSum, MillionsOfTerms) {
  constexpr int64_t kCount = 5 << 19;
  const double all_ones = 0x1.fffffffffffffp31;
  ExactSum sum, of_sums;
  const ExactSum one = sum_of({all_ones, -0x1p-298});
  for (int64_t i = 0; i < kCount; ++i) {
    sum.add(all_ones);
    sum.add(-0x1p-298);
    of_sums.add(one);
  }
  EXPECT_EQ(sum.value(), 5 * std::ldexp(all_ones, 19));  // 56 bits: the tiny terms decide no tie
  EXPECT_EQ(sum.words(), of_sums.words());
  sum.add(-static_cast<double>(kCount) * 0x1p32);
  sum.add(static_cast<double>(kCount) * 0x1p-21);
  EXPECT_EQ(sum.value(), -static_cast<double>(kCount) * 0x1p-298);
}

TEST(ExactSum, WhatDoesNotFitIsNan) {
  for (const double bad : {kInfinity, -kInfinity, kNan, -kNan, 0x1p300, -0x1p300, 1e308, 0x1p-299, -0x1.8p-298,
                           0x1.0000000000001p-247, 0x1p-1022, 5e-324, -5e-324}) {
    ExactSum sum = sum_of({1, bad, -bad, 2});
    EXPECT_TRUE(std::isnan(sum.value())) << bad;
    ExactSum other = sum_of({4});
    other.add(sum);
    EXPECT_TRUE(std::isnan(other.value())) << bad;
    EXPECT_TRUE(std::isnan(ExactSum(other.words()).value())) << bad;
  }
}

// Kernels run with denormals as zero; the sum of float denormals must not depend on the thread that takes it.
TEST(ExactSum, FlushingDenormalsChangesNothing) {
  const std::vector<double> terms = {0x1p-149, 0x1.8p-148, -0x1p-298, 5e-324};
  const auto want = sum_of(terms).words();
  std::thread([&] {
    flush_denormals();
    EXPECT_EQ(sum_of(terms).words(), want);
    EXPECT_EQ(sum_of({0x1p-149, 0x1.8p-148, -0x1p-148}).value(), 0x1p-148);
  }).join();
}

}  // namespace
}  // namespace colossus
