#include "device/sim/kernel_times.h"

#include <gtest/gtest.h>

#include <utility>

#include "device/sim/play.h"
#include "program/builder.h"

namespace colossus {
namespace {

const GpuSpec kGpu = {.name = "test",
                      .fp32_tflops = 60,
                      .bf16_tflops = 1000,
                      .fp8_tflops = 2000,
                      .fp4_tflops = 0,
                      .memory_gb = 80,
                      .memory_gb_per_second = 3000,
                      .num_units = 128};

KernelWork product(int64_t m, int64_t n, int64_t k) {
  KernelWork work{.kind = WorkKind::kMatmul, .group = {}};
  work.m = m;
  work.n = n;
  work.k = k;
  work.flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  work.bytes = 2.0 * static_cast<double>(m * k + k * n + m * n);
  work.rounded = static_cast<double>(m) * static_cast<double>(k);
  work.narrow = true;
  return work;
}

TEST(KernelTimes, LargeProductsReachTheirShareOfThePeak) {
  const KernelRates rates = {.matmul_bf16 = 0.8, .half_k = 0, .launch_us = 0};
  const KernelTimes times(kGpu, rates, ProductType::kBF16);
  const KernelWork work = product(128 * 256, 128 * 128, 8192);  // whole tiles, whole waves
  EXPECT_NEAR(times.seconds(work), work.flops / (0.8 * 1e15), 1e-9);
  EXPECT_DOUBLE_EQ(times.fill(128 * 256, 128 * 128, 1), 1);
}

TEST(KernelTimes, ARaggedEdgeAndALastWaveCost) {
  const KernelTimes times(kGpu, {}, ProductType::kBF16);
  EXPECT_LT(times.fill(16384 + 1, 16384, 1), times.fill(16384, 16384, 1));
  EXPECT_LT(times.fill(256 * 129, 128, 1), times.fill(256 * 128, 128, 1)) << "129 tiles on 128 units are two waves";
  for (const int64_t m : {1, 100, 4096, 5000})
    for (const int64_t n : {1, 77, 8192}) {
      EXPECT_GT(times.fill(m, n, 1), 0);
      EXPECT_LE(times.fill(m, n, 1), 1);
    }
}

TEST(KernelTimes, RoundingAndShallowProductsCostMoreOfAFasterType) {
  const KernelRates rates = {.matmul_bf16 = 0.8, .matmul_fp8 = 0.8, .half_k = 0, .memory = 0.5, .launch_us = 0};
  KernelWork work = product(128 * 256, 128 * 128, 8192);
  const double rounded = std::exchange(work.rounded, 0);
  const double apart = KernelTimes(kGpu, rates, ProductType::kFp8).seconds(work);
  EXPECT_NEAR(apart, work.flops / (0.8 * 2e15), 1e-9);
  work.rounded = rounded;
  // Read in two bytes, written twice in one.
  EXPECT_NEAR(KernelTimes(kGpu, rates, ProductType::kFp8).seconds(work) - apart, 4 * work.rounded / 1.5e12, 1e-9);
  EXPECT_EQ(KernelTimes(kGpu, rates, ProductType::kBF16).seconds(work), 2 * apart);
  // What a tile takes beside its products takes as long.
  KernelRates deep = rates;
  deep.half_k = 8192;
  work.rounded = 0;
  EXPECT_NEAR(KernelTimes(kGpu, deep, ProductType::kBF16).seconds(work), 2 * (2 * apart), 1e-9);
  EXPECT_NEAR(KernelTimes(kGpu, deep, ProductType::kFp8).seconds(work), 3 * apart, 1e-9);
}

TEST(KernelTimes, SkinnyProductsAreBoundByMemory) {
  const KernelRates rates = {.memory = 0.5, .launch_us = 0};
  const KernelTimes times(kGpu, rates, ProductType::kBF16);
  const KernelWork work = product(8, 8192, 8192);
  EXPECT_NEAR(times.seconds(work), work.bytes / (0.5 * 3e12), 1e-9);
}

TEST(KernelTimes, NarrowTypesHelpLargeProductsOnly) {
  const KernelRates rates = {.matmul_bf16 = 0.8, .matmul_fp8 = 0.7};
  const KernelTimes bf16(kGpu, rates, ProductType::kBF16), fp8(kGpu, rates, ProductType::kFp8);
  const KernelWork large = product(8192, 8192, 8192), small = product(8192, 256, 256);
  EXPECT_LT(fp8.seconds(large), 0.75 * bf16.seconds(large));
  EXPECT_GT(fp8.seconds(small), bf16.seconds(small)) << "rounding takes longer than is won";
  KernelWork head = large;
  head.narrow = false;
  EXPECT_DOUBLE_EQ(fp8.seconds(head), bf16.seconds(head)) << "the head stays in bf16";
}

TEST(KernelTimes, TimeGrowsWithEverySize) {
  const KernelTimes times(kGpu, {}, ProductType::kBF16);
  double before = 0;
  for (int64_t size = 128; size <= 16384; size *= 2) {
    const double now = times.seconds(product(size, size, size));
    EXPECT_GT(now, before) << size;
    before = now;
  }
  KernelWork attention{.kind = WorkKind::kAttention, .group = {}};
  attention.flops = 1e12;
  attention.head_dim = 128;
  attention.tokens = 1024;
  const double short_ones = times.seconds(attention);
  attention.tokens = 65536;
  EXPECT_LT(times.seconds(attention), short_ones) << "the same work in longer sequences";
  EXPECT_GT(times.unfused_attention_seconds(attention, true), times.seconds(attention));
  EXPECT_GT(times.unfused_attention_seconds(attention, true), times.unfused_attention_seconds(attention, false));
}

TEST(KernelTimes, TheClockScalesProductsButNotMemory) {
  const KernelTimes slow(kGpu, {.clock = 0.5, .launch_us = 0}, ProductType::kBF16);
  const KernelTimes fast(kGpu, {.clock = 1, .launch_us = 0}, ProductType::kBF16);
  EXPECT_NEAR(slow.seconds(product(8192, 8192, 8192)) / fast.seconds(product(8192, 8192, 8192)), 2, 1e-9);
  const KernelWork copy{.kind = WorkKind::kMemory, .bytes = 1e9, .group = {}};
  EXPECT_DOUBLE_EQ(slow.seconds(copy), fast.seconds(copy));
}

// y = gather(x) @ w, z = f(x): the gather runs beside f, and the product waits for it.
Program gather_beside_work() {
  Builder b("test");
  const TensorId x = b.input("x", {64, 128}, DType::kBF16);
  const TensorId w = b.parameter("w", {128, 256});
  AllGather gather;
  gather.group = RankGroup::along({MeshAxis::kTensor});
  gather.ranks = 2;
  const TensorId whole = b.emit(gather, {x});
  const TensorId other = b.emit(Scale{.factor = 2}, {x});
  b.mark_output(other, "other");
  b.mark_output(b.emit(Matmul{.dtype = DType::kBF16}, {whole, w}), "y");
  return *b.finish();
}

TEST(Play, LanesRunSideBySideAndNeverOverlapThemselves) {
  const PlayableProgram program = playable(gather_beside_work());
  ASSERT_EQ(program.works.size(), 3u);
  EXPECT_EQ(program.works[0].kind, WorkKind::kCommunication);
  EXPECT_EQ(program.works[2].m, 128);
  EXPECT_EQ(program.works[2].n, 256);
  EXPECT_EQ(program.works[2].k, 128);
  for (const double gather : {1.0, 3.0, 10.0}) {
    const PlayedProgram played =
        play(program, [&](const KernelWork& work) { return work.kind == WorkKind::kCommunication ? gather : 3.0; });
    EXPECT_DOUBLE_EQ(played.operations[1].start, 0) << "beside the gather";
    EXPECT_DOUBLE_EQ(played.operations[2].start, std::max(3.0, gather)) << "behind both";
    EXPECT_DOUBLE_EQ(played.seconds, std::max(3.0, gather) + 3);
    EXPECT_DOUBLE_EQ(played.compute_seconds, 6);
    EXPECT_DOUBLE_EQ(played.group_seconds.begin()->second, gather);
  }
}

TEST(KernelWork, RoomForRowsThatDoNotComeCostsNothing) {
  Builder b("test");
  const int64_t rows = 512, ranks = 4;
  const TensorId x = b.input("x", {rows, 64}, DType::kBF16);
  const TensorId offsets = b.input("all_offsets", {ranks * 9}, DType::kI32);
  RowsToExperts to;
  to.group = RankGroup::along({MeshAxis::kExpert});
  to.ranks = ranks;
  b.emit(to, {x, offsets});
  ASSERT_TRUE(b.status().ok()) << b.status().message();
  const TensorId arrived = b.last_outputs()[RowsToExperts::kArrived];
  b.mark_output(b.emit(Scale{.factor = 2}, {arrived}), "y");
  const Program program = *b.finish();
  const PlayableProgram works = playable(program);
  // Read and written: as many rows as a rank has of its own, with balanced experts.
  EXPECT_DOUBLE_EQ(works.works[1].bytes, 2.0 * rows * 64 * 2);
  EXPECT_GT(works.works[0].bytes_sent, 0);
}

}  // namespace
}  // namespace colossus
