#include "base/rng.h"

#include <cmath>

#include "base/check.h"
#include "base/fill_normal.h"

namespace colossus {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57, kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * counter[0], p1 = uint64_t{kMul1} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::array<uint32_t, 4> random_block(const RngKey& key, uint64_t index) {
  const uint32_t high = (static_cast<uint32_t>(key.purpose) << 16) | static_cast<uint32_t>((key.step >> 32) & 0xFFFF);
  return philox4x32(
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(key.step), high},
      {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

uint32_t random_bits(const RngKey& key, uint64_t index) { return random_block(key, index / 4)[index % 4]; }

float random_uniform(const RngKey& key, uint64_t index) {
  return static_cast<float>(random_bits(key, index) >> 8) * 0x1p-24f;
}

void fill_normal(const RngKey& key, uint64_t first, float scale, std::span<float> into) {
  std::array<float, 4> normal{};
  uint64_t block = UINT64_MAX;
  for (size_t i = 0; i < into.size(); ++i) {
    const uint64_t index = first + i;
    if (index / 4 != block) {
      block = index / 4;
      const auto bits = random_block(key, block);
      for (size_t pair = 0; pair < 4; pair += 2) {
        const double radius = std::sqrt(-2 * std::log((static_cast<double>(bits[pair]) + 1) * 0x1p-32));
        const double angle = static_cast<double>(bits[pair + 1]) * 0x1p-32 * 6.283185307179586;
        normal[pair] = static_cast<float>(radius * std::cos(angle));
        normal[pair + 1] = static_cast<float>(radius * std::sin(angle));
      }
    }
    into[i] = scale * normal[index % 4];
  }
}

float random_normal(const RngKey& key, uint64_t index) {
  float value = 0;
  fill_normal(key, index, 1, {&value, 1});
  return value;
}

uint64_t permute(const RngKey& key, uint64_t position, uint64_t size) {
  CHECK(position < size);
  if (size == 1) return 0;
  int half_bits = 1;
  while ((uint64_t{1} << (2 * half_bits)) < size) ++half_bits;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t x = position;
  do {  // at most 4 domain values per element on average: the domain is under 4 * size
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const auto f = random_block(key, (round << 56) ^ right);
      const uint64_t mixed = left ^ (((uint64_t{f[1]} << 32) | f[0]) & mask);
      left = right;
      right = mixed;
    }
    x = (left << half_bits) | right;
  } while (x >= size);
  return x;
}

}  // namespace colossus
