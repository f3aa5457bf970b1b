// The vector functions against double arithmetic, on every instruction set this processor has.
#include "device/cpu/simd.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/platform.h"
#include "base/rng.h"
#include "device/cpu/array_simd.h"
#include "tensor/dtype.h"

namespace colossus {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct NamedKernels {
  const char* name;
  const ArrayKernels* kernels;
};

std::vector<NamedKernels> available_kernels() {
  std::vector<NamedKernels> all = {{"avx2", &array_kernels<Avx2>()}};
  if (isa_level() >= IsaLevel::kAvx512) all.push_back({"avx512", &array_kernels<Avx512>()});
  return all;
}

using MapFunction = void (*)(const float*, float*, int64_t);

std::vector<float> apply(MapFunction function, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  function(x.data(), y.data(), static_cast<int64_t>(x.size()));
  return y;
}

// Evenly spaced values with an odd count, so that the masked tail is used.
std::vector<float> spaced(double low, double high, int count) {
  std::vector<float> x;
  for (int i = 0; i < count; ++i) x.push_back(static_cast<float>(low + (high - low) * i / (count - 1)));
  return x;
}

double largest_relative_error(MapFunction function, double (*exact)(double), const std::vector<float>& x) {
  const std::vector<float> y = apply(function, x);
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = exact(x[i]);
    const double error = want == 0 ? std::abs(y[i]) : std::abs(y[i] - want) / std::abs(want);
    largest = std::max(largest, std::isnan(error) ? 1e30 : error);
  }
  return largest;
}

TEST(Simd, ExpIsAccurate) {
  for (const auto& [name, k] : available_kernels()) {
    EXPECT_LT(largest_relative_error(k->exp, std::exp, spaced(-87, 88.7, 200'003)), 1.2e-7) << name;
    EXPECT_LT(largest_relative_error(k->exp, std::exp, spaced(-1e-3, 1e-3, 10'007)), 1.2e-7) << name;
    const std::vector<float> y = apply(k->exp, {-kInfinity, kInfinity, kNan, 0, 89, -200, 1e30F});
    EXPECT_EQ(y[0], 0) << name;
    EXPECT_EQ(y[1], kInfinity) << name;
    EXPECT_TRUE(std::isnan(y[2])) << name;
    EXPECT_EQ(y[3], 1) << name;
    EXPECT_EQ(y[4], kInfinity) << name;
    EXPECT_EQ(y[5], 0) << name;
    EXPECT_EQ(y[6], kInfinity) << name;
  }
}

TEST(Simd, TanhIsAccurateNearZeroAndSaturates) {
  for (const auto& [name, k] : available_kernels()) {
    EXPECT_LT(largest_relative_error(k->tanh, std::tanh, spaced(-12, 12, 200'003)), 3e-7) << name;
    EXPECT_LT(largest_relative_error(k->tanh, std::tanh, spaced(-1e-3, 1e-3, 10'007)), 3e-7) << name;
    EXPECT_LT(largest_relative_error(k->tanh, std::tanh, spaced(-1e-20, 1e-20, 107)), 3e-7) << name;
    const std::vector<float> y = apply(k->tanh, {-kInfinity, kInfinity, kNan, 0});
    EXPECT_EQ(y[0], -1) << name;
    EXPECT_EQ(y[1], 1) << name;
    EXPECT_TRUE(std::isnan(y[2])) << name;
    EXPECT_EQ(y[3], 0) << name;
  }
}

TEST(Simd, SigmoidLogAndRsqrtAreAccurate) {
  for (const auto& [name, k] : available_kernels()) {
    EXPECT_LT(largest_relative_error(
                  k->sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, spaced(-80, 80, 100'003)),
              2.5e-7)
        << name;
    EXPECT_LT(largest_relative_error(k->log, std::log, spaced(1e-3, 50, 200'003)), 3e-7) << name;
    EXPECT_LT(largest_relative_error(k->log, std::log, spaced(0.99, 1.01, 10'007)), 3e-7) << name;
    EXPECT_LT(largest_relative_error(k->log, std::log, {1.2e-38F, 3e38F, 1e-20F, 1e20F}), 3e-7) << name;
    EXPECT_LT(largest_relative_error(
                  k->rsqrt, [](double x) { return 1 / std::sqrt(x); }, spaced(1e-6, 100, 10'007)),
              1.2e-7)
        << name;
    const std::vector<float> y = apply(k->log, {0, kInfinity, -1, kNan, 1});
    EXPECT_EQ(y[0], -kInfinity) << name;
    EXPECT_EQ(y[1], kInfinity) << name;
    EXPECT_TRUE(std::isnan(y[2])) << name;
    EXPECT_TRUE(std::isnan(y[3])) << name;
    EXPECT_EQ(y[4], 0) << name;
  }
}

// Of all lengths that a masked tail can have; into one of its terms, too.
TEST(Simd, AddsElementByElement) {
  for (const auto& [name, k] : available_kernels()) {
    for (const int count : {0, 1, 7, 8, 15, 16, 17, 100, 1024}) {
      const std::vector<float> a = spaced(-1e10, 3, count + 2), b = spaced(1e-3, 70, count + 2);
      std::vector<float> sum(a.size(), kNan), in_place = a;
      k->add(a.data(), b.data(), sum.data(), count);
      k->add(in_place.data(), b.data(), in_place.data(), count);
      for (size_t i = 0; i < a.size(); ++i) {
        if (i >= static_cast<size_t>(count)) {
          EXPECT_TRUE(std::isnan(sum[i])) << name << " behind " << count;
          EXPECT_EQ(in_place[i], a[i]) << name << " behind " << count;
          continue;
        }
        EXPECT_EQ(sum[i], a[i] + b[i]) << name << " " << i;
        EXPECT_EQ(in_place[i], sum[i]) << name << " " << i;
      }
    }
  }
}

TEST(Simd, Bf16RoundsAsTheScalarCodeDoes) {
  std::vector<float> x = {0, -0.0F, kInfinity, -kInfinity, kNan, 3.4e38F, std::bit_cast<float>(0x7F800001U)};
  for (uint64_t i = 0; i < 20'000; ++i)
    x.push_back(std::bit_cast<float>(random_bits({.seed = 1, .purpose = RngPurpose::kTest}, i)));
  for (uint32_t tie = 0x3F808000; tie < 0x3F908000; tie += 0x8000) x.push_back(std::bit_cast<float>(tie));
  for (const auto& [name, k] : available_kernels()) {
    std::vector<uint16_t> y(x.size());
    k->to_bf16(x.data(), y.data(), static_cast<int64_t>(x.size()));
    std::vector<float> back(x.size());
    k->to_f32(y.data(), back.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i], to_bf16(x[i]).bits) << name << " element " << i << " = " << x[i];
      ASSERT_EQ(std::bit_cast<uint32_t>(back[i]), uint32_t{y[i]} << 16) << name;
    }
  }
}

TEST(Simd, TailsTouchNothingBeyondTheArray) {
  for (const auto& [name, k] : available_kernels()) {
    for (int64_t count = 0; count <= 35; ++count) {
      std::vector<float> x(static_cast<size_t>(count), 1.5F);  // exactly sized: the sanitizer sees reads past it
      std::vector<float> y(static_cast<size_t>(count) + 1, -7);
      std::vector<uint16_t> half(static_cast<size_t>(count) + 1, 0xABCD);
      k->exp(x.data(), y.data(), count);
      k->to_bf16(x.data(), half.data(), count);
      EXPECT_EQ(y.back(), -7) << name << count;
      EXPECT_EQ(half.back(), 0xABCD) << name << count;
      if (count > 0) {
        EXPECT_EQ(half[static_cast<size_t>(count) - 1], to_bf16(1.5F).bits) << name << count;
        EXPECT_FLOAT_EQ(y[static_cast<size_t>(count) - 1], std::exp(1.5F)) << name << count;
      }
      std::iota(x.begin(), x.end(), -50.0F);
      EXPECT_EQ(k->sum(x.data(), count), static_cast<float>(count * (count - 1) / 2 - 50 * count)) << name << count;
      EXPECT_EQ(k->max(x.data(), count), count > 0 ? x.back() : -kInfinity) << name << count;
    }
  }
}

}  // namespace
}  // namespace colossus
