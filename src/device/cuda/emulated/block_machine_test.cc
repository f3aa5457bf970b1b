// The played GPU finds the faults it is there to find.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/rng.h"
#include "device/cuda/emulated/emulated_gpu.h"
#include "device/cuda/emulated/language.h"

namespace colossus {
namespace {

using gpu::launch;

class PlayedGpu : public testing::Test {
 protected:
  PlayedGpu() : stream_(*gpu::make_stream()) {}
  ~PlayedGpu() override { gpu::destroy(stream_); }
  void finish() { ASSERT_TRUE(gpu::synchronize(stream_).ok()); }

  gpu::Stream stream_;
};

void number_threads(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += static_cast<int>(thread) + 1;
}

TEST_F(PlayedGpu, RunsEveryThreadOfEveryBlockOnce) {
  std::vector<int> out(2 * 3 * 2 * 64);
  launch({.stream = stream_, .grid = {2, 3, 2}, .block = {8, 4, 2}}, number_threads, out.data());
  finish();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], static_cast<int>(i % 64) + 1) << i;
}

void reverse_block(const float* in, float* out, bool waits) {
  __shared__ float values[256];
  values[threadIdx.x] = in[blockIdx.x * 256 + threadIdx.x];
  if (waits) __syncthreads();
  out[blockIdx.x * 256 + threadIdx.x] = values[255 - threadIdx.x];
}

TEST_F(PlayedGpu, ThreadsMeetAtBarriersAndAMissingOneShows) {
  std::vector<float> in(1024), want(1024);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  for (size_t i = 0; i < in.size(); ++i) want[i] = in[i / 256 * 256 + 255 - i % 256];
  std::vector<float> out(1024, -1);
  launch({.stream = stream_, .grid = {4}, .block = {256}}, reverse_block, in.data(), out.data(), true);
  finish();
  EXPECT_EQ(out, want);
  launch({.stream = stream_, .grid = {4}, .block = {256}}, reverse_block, in.data(), out.data(), false);
  finish();
  EXPECT_NE(out, want);
}

void sum_warp(const int* in, int* out) {
  int x = in[threadIdx.x];
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  const int below = __shfl_up_sync(kAllLanes, in[threadIdx.x], 1),
            above = __shfl_down_sync(kAllLanes, in[threadIdx.x], 1);
  const unsigned odd = __ballot_sync(kAllLanes, in[threadIdx.x] % 2);
  out[threadIdx.x] = x + 10000 * below + 1000000 * (above - in[threadIdx.x]);
  if (threadIdx.x % 32 == 0) atomicAdd(out + 64, __popc(odd));
}

TEST_F(PlayedGpu, LanesOfAWarpSeeEachOther) {
  std::vector<int> in(64), out(65);
  for (int i = 0; i < 64; ++i) in[static_cast<size_t>(i)] = i;
  launch({.stream = stream_, .block = {64}}, sum_warp, in.data(), out.data());
  finish();
  EXPECT_EQ(out[5], 496 + 10000 * 4 + 1000000);
  EXPECT_EQ(out[32], 496 + 1024 + 10000 * 32 + 1000000);  // no lane below: its own
  EXPECT_EQ(out[63], 496 + 1024 + 10000 * 62);            // none above
  EXPECT_EQ(out[64], 32);
}

void wait_alone() {
  if (threadIdx.x < 32) __syncthreads();
}
void leave_warp() {
  if (threadIdx.x < 3) __syncwarp();
}

TEST_F(PlayedGpu, ThreadsThatOthersWaitForMayNotEnd) {
  EXPECT_DEATH(
      {
        launch({.stream = stream_, .block = {64}}, wait_alone);
        (void)gpu::synchronize(stream_);
      },
      "end while others wait");
  EXPECT_DEATH(
      {
        launch({.stream = stream_, .block = {64}}, leave_warp);
        (void)gpu::synchronize(stream_);
      },
      "end while others wait");
}

void copy_through_shared(const float* in, float* out, bool waits) {
  float* stage = gpu::dynamic_shared<float>();
  gpu::copy_async_16(stage + 4 * threadIdx.x, in + 4 * threadIdx.x, threadIdx.x != 3);
  gpu::close_copy_group();
  if (waits) gpu::wait_for_copies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = stage[4 * threadIdx.x + i];
  if (!waits) gpu::wait_for_copies<0>();
}

TEST_F(PlayedGpu, CopiesAreThereWhenWaitedFor) {
  alignas(16) float in[128], out[128];
  for (int i = 0; i < 128; ++i) in[i] = static_cast<float>(i + 1);
  std::set<bool> seen;
  for (int i = 0; i < 20; ++i) {
    launch({.stream = stream_, .block = {32}, .shared_bytes = 512}, copy_through_shared, in, out, true);
    finish();
    for (int j = 0; j < 128; ++j) ASSERT_EQ(out[j], j / 4 == 3 ? 0 : in[j]);
    launch({.stream = stream_, .block = {32}, .shared_bytes = 512}, copy_through_shared, in, out, false);
    finish();
    seen.insert(out[0] == in[0]);
  }
  // Not waited for, they may be late: memory that nobody has written is a NaN.
  EXPECT_TRUE(seen.contains(false));
}

// One 16 x 8 product by a warp, from row-major a (16, 16) and b (16, 8) through ldmatrix.
void multiply(const BFloat16* a, const BFloat16* b, float* d) {
  alignas(16) __shared__ BFloat16 a_tile[16 * 16], b_tile[16 * 8];
  for (unsigned i = threadIdx.x; i < 256; i += 32) a_tile[i] = a[i];
  for (unsigned i = threadIdx.x; i < 128; i += 32) b_tile[i] = b[i];
  __syncwarp();
  const int lane = gpu::lane();
  unsigned a_registers[4], b_registers[4];
  gpu::load_matrices<false>(a_registers, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  gpu::load_matrices<true>(b_registers, b_tile + (lane % 16) * 8);  // the second two matrices repeat the first
  const unsigned b_pair[2] = {b_registers[0], b_registers[1]};
  float sums[4] = {};
  gpu::multiply_16x8x16(sums, a_registers, b_pair);
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

TEST_F(PlayedGpu, MultipliesTilesAsTensorCoresDo) {
  std::vector<BFloat16> a(256), b(128);
  std::vector<float> d(128);
  const RngKey key{.seed = 3, .purpose = RngPurpose::kTest};
  for (size_t i = 0; i < a.size(); ++i) a[i] = to_bf16(static_cast<float>(random_normal(key, i)));
  for (size_t i = 0; i < b.size(); ++i) b[i] = to_bf16(static_cast<float>(random_normal(key, 1000 + i)));
  launch({.stream = stream_, .block = {32}}, multiply, a.data(), b.data(), d.data());
  finish();
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 8; ++j) {
      float want = 0;
      for (size_t k = 0; k < 16; ++k) want += to_float(a[i * 16 + k]) * to_float(b[k * 8 + j]);
      EXPECT_NEAR(d[i * 8 + j], want, 1e-5) << i << " " << j;
    }
}

void store(int* at, int value) {
  if (threadIdx.x == 0) *at = value;
}

TEST_F(PlayedGpu, StreamsRunInAnyOrderThatEventsAllow) {
  const gpu::Stream other = *gpu::make_stream();
  const gpu::Event event = *gpu::make_event();
  std::set<int> without, with;
  for (int i = 0; i < 50; ++i) {
    int value = 0;
    launch({.stream = stream_, .block = {32}}, store, &value, 1);
    launch({.stream = other, .block = {32}}, store, &value, 2);
    finish();
    ASSERT_TRUE(gpu::synchronize(other).ok());
    without.insert(value);
    launch({.stream = stream_, .block = {32}}, store, &value, 1);
    gpu::record(stream_, event);
    gpu::wait(other, event);
    launch({.stream = other, .block = {32}}, store, &value, 2);
    ASSERT_TRUE(gpu::synchronize(other).ok());
    with.insert(value);
  }
  EXPECT_EQ(without, (std::set<int>{1, 2}));
  EXPECT_EQ(with, (std::set<int>{2}));
  gpu::destroy(event);
  gpu::destroy(other);
}

TEST_F(PlayedGpu, AGraphIsRunAgainAndAgainOverItsStreams) {
  const gpu::Stream other = *gpu::make_stream();
  const gpu::Event fork = *gpu::make_event(), join = *gpu::make_event();
  int a = 0, b = 0, sum = 0;
  gpu::begin_capture(stream_);
  launch({.stream = stream_, .block = {32}}, store, &a, 1);
  gpu::record(stream_, fork);
  gpu::wait(other, fork);
  launch({.stream = other, .block = {32}}, store, &b, 2);
  gpu::record(other, join);
  gpu::wait(stream_, join);
  launch(
      {.stream = stream_, .block = {32}}, +[](const int* x, const int* y, int* z) { *z = *x + *y; }, &a, &b, &sum);
  const gpu::Graph graph = *gpu::end_capture(stream_);
  EXPECT_EQ(sum, 0) << "what is captured does not run";
  for (int i = 0; i < 20; ++i) {
    a = b = sum = 0;
    gpu::launch(stream_, graph);
    finish();
    EXPECT_EQ(sum, 3);
  }
  gpu::destroy(graph);
  gpu::destroy(fork);
  gpu::destroy(join);
  gpu::destroy(other);
}

TEST_F(PlayedGpu, ShapesThatNoGpuTakesAreRefused) {
  int value = 0;
  EXPECT_DEATH(
      {
        launch({.stream = stream_, .block = {33}}, store, &value, 1);
        (void)gpu::synchronize(stream_);
      },
      "a block has");
  EXPECT_DEATH(
      {
        launch({.stream = stream_, .block = {32}, .shared_bytes = 1 << 20}, store, &value, 1);
        (void)gpu::synchronize(stream_);
      },
      "shared memory");
}

}  // namespace
}  // namespace colossus
