// Counter-based random numbers: a value is a function of (seed, purpose, step, index), never of who asks or when.
// Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace colossus {

// What a stream is for; two purposes never share numbers. Never renumber: runs depend on it.
enum class RngPurpose : uint32_t {
  kInit = 1,
  kDropout = 2,
  kDataOrder = 3,
  kSampling = 4,
  kTest = 5,
  kMixture = 6,
  kFaults = 7,
  kBuildOut = 8,
};

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

struct RngKey {
  uint64_t seed = 0;
  RngPurpose purpose = RngPurpose::kTest;
  uint64_t step = 0;  // training step, or any 48-bit stream number
};

// Four independent 32-bit numbers for block `index`.
std::array<uint32_t, 4> random_block(const RngKey& key, uint64_t index);
// 32 bits for `index`: element index % 4 of block index / 4.
uint32_t random_bits(const RngKey& key, uint64_t index);
// Uniform in [0, 1) with 24 bits.
float random_uniform(const RngKey& key, uint64_t index);
// Standard normal (Box-Muller), one per index.
float random_normal(const RngKey& key, uint64_t index);

// The element at `position` of a pseudo-random permutation of 0..size-1 (a Feistel network with cycle walking).
uint64_t permute(const RngKey& key, uint64_t position, uint64_t size);

}  // namespace colossus
