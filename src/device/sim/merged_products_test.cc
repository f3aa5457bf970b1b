#include "device/sim/merged_products.h"

#include <gtest/gtest.h>

#include "device/sim/kernel_times.h"
#include "program/builder.h"

namespace colossus {
namespace {

constexpr int64_t kTokens = 64, kWidth = 128;

// x Wq, x Wk and another product of another x; the gradient dq Wq^T + dk Wk^T; those of Wq and Wk.
Program three_products() {
  Builder b("test");
  const TensorId x = b.input("x", {kTokens, kWidth}, DType::kBF16),
                 other = b.input("other", {kTokens, kWidth}, DType::kBF16);
  const TensorId wq = b.parameter("wq", {kWidth, 96}), wk = b.parameter("wk", {kWidth, 32});
  const TensorId q = b.emit(Matmul{.dtype = DType::kBF16}, {x, wq}), k = b.emit(Matmul{.dtype = DType::kBF16}, {x, wk});
  b.mark_output(b.emit(Matmul{.dtype = DType::kBF16}, {other, wk}), "y");
  const TensorId dx = b.emit(Matmul{.transpose_b = true, .dtype = DType::kBF16}, {q, wq});
  b.mark_output(b.emit(Matmul{.transpose_b = true, .dtype = DType::kBF16}, {k, wk, {}, dx}), "dx");
  b.mark_output(b.emit(Matmul{.transpose_a = true}, {x, q}), "dwq");
  b.mark_output(b.emit(Matmul{.transpose_a = true}, {x, k}), "dwk");
  return *b.finish();
}

TEST(MergedProducts, OfOneOperandAreOne) {
  const Program program = three_products();
  const PlayableProgram apart = playable(program);
  PlayableProgram works = apart;
  merge_products(program, works);
  ASSERT_EQ(works.works.size(), 7u);
  const auto shape = [&](size_t at) {
    const KernelWork& work = works.works[at];
    return std::tuple{work.m, work.n, work.k};
  };
  EXPECT_EQ(shape(0), std::tuple(kTokens, 96 + 32, kWidth));
  EXPECT_TRUE(works.works[1].absorbed);
  EXPECT_EQ(shape(2), std::tuple(kTokens, 32, kWidth)) << "of another operand";
  EXPECT_EQ(shape(3), std::tuple(kTokens, kWidth, 96 + 32)) << "a sum is one of deeper operands";
  EXPECT_TRUE(works.works[4].absorbed);
  EXPECT_EQ(shape(5), std::tuple(kWidth, 96 + 32, kTokens));
  EXPECT_TRUE(works.works[6].absorbed);
  const KernelTimes times({.bf16_tflops = 1000, .memory_gb_per_second = 3000, .num_units = 128}, {},
                          ProductType::kBF16);
  EXPECT_EQ(times.seconds(works.works[1]), 0);
  // As much work, and what was read or rounded twice is so once.
  double flops[2] = {}, bytes[2] = {};
  for (size_t at = 0; at < works.works.size(); ++at) {
    flops[0] += apart.works[at].flops, flops[1] += works.works[at].flops;
    bytes[0] += apart.works[at].bytes, bytes[1] += works.works[at].bytes;
  }
  EXPECT_DOUBLE_EQ(flops[1], flops[0]);
  EXPECT_DOUBLE_EQ(bytes[0] - bytes[1], 2.0 * 2 * kTokens * kWidth + 2.0 * 2 * kTokens * kWidth);
  EXPECT_DOUBLE_EQ(works.works[0].rounded, kTokens * kWidth);
  EXPECT_DOUBLE_EQ(works.works[3].rounded, kTokens * (96 + 32));
  EXPECT_DOUBLE_EQ(works.works[5].rounded, 0) << "rounded where they were first read";
}

}  // namespace
}  // namespace colossus
