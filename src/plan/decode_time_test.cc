#include "plan/decode_time.h"

#include <gtest/gtest.h>

#include "io/config.h"
#include "model/model.h"
#include "plan/calibration.h"
#include "plan/cluster.h"

namespace colossus {
namespace {

const std::string kConfigs = std::string(COLOSSUS_SOURCE_DIR) + "/configs/";

DecodeQuestion question_of(const std::string& model, const std::string& cluster) {
  const auto calibration = load_config<Calibration>(local_files(), kConfigs + "calibration.toml").value();
  const auto machine = load_config<ClusterConfig>(local_files(), kConfigs + "clusters/" + cluster + ".toml").value();
  const GpuSpec& gpu = machine.pools[0].gpu;
  return {.model = load_config<ModelConfig>(local_files(), kConfigs + "models/" + model + ".toml").value(),
          .gpu = gpu,
          .rates = *calibration.rates_of(gpu.name),
          .network = machine.network};
}

double without_sums(const DecodeTime& time) { return time.seconds * (1 - time.communication); }

// One sequence waits for the weights that its token meets, and for hardly anything else.
TEST(DecodeTime, OneSequenceReadsTheActiveWeights) {
  const DecodeQuestion question = question_of("grok-1", "dgx-h200-pod");
  const DecodeTime time = time_decode(question, 1).value();
  const double active = 2.0 * static_cast<double>(count_parameters(question.model)->active_matmul);
  const double bandwidth = 8 * 4.8e12 * question.rates.memory;
  EXPECT_NEAR(without_sums(time), active / bandwidth, 0.05 * active / bandwidth);
  EXPECT_GT(time.memory_bound, 0.5);
  EXPECT_DOUBLE_EQ(time.tokens_per_second_per_gpu, 1 / time.seconds / 8);
  // With weights of one byte half of that.
  DecodeQuestion narrow = question;
  narrow.weight_bytes = 1;
  EXPECT_NEAR(without_sums(time_decode(narrow, 1).value()) / without_sums(time), 0.5, 0.02);
}

// The H200 has the H100's units and 4.8 instead of 3.35 TB/s.
TEST(DecodeTime, WhatWaitsForMemoryIsFasterByTheBandwidth) {
  DecodeQuestion h100 = question_of("grok-1", "dgx-h100-pod"), h200 = question_of("grok-1", "dgx-h200-pod");
  h100.weight_bytes = h200.weight_bytes = 1;
  const double ratio = without_sums(time_decode(h100, 4).value()) / without_sums(time_decode(h200, 4).value());
  EXPECT_NEAR(ratio, 4.8 / 3.35, 0.01);
}

TEST(DecodeTime, MoreSequencesShareTheWeights) {
  const DecodeQuestion question = question_of("grok-1", "dgx-h200-pod");
  const DecodeTime one = time_decode(question, 1).value(), some = time_decode(question, 64).value();
  EXPECT_GT(some.seconds, 2 * one.seconds) << "all eight experts instead of two, and 64 caches";
  EXPECT_GT(some.tokens_per_second_per_gpu, 8 * one.tokens_per_second_per_gpu);
  EXPECT_DOUBLE_EQ(some.cache_gb, 64 * one.cache_gb);
  // K and V of one head of 128 in bf16 on each GPU, in 64 layers.
  EXPECT_DOUBLE_EQ(one.cache_gb, 2 * 2 * 128 * 64 * 8192 * 1e-9);
}

TEST(DecodeTime, FillsTheMemoryAndNotMore) {
  EXPECT_EQ(*largest_decode_batch(question_of("grok-1", "dgx-h100-pod")), 0) << "628 GB of weights on 640 GB";
  const DecodeQuestion question = question_of("grok-1", "dgx-h200-pod");
  const int64_t batch = *largest_decode_batch(question);
  ASSERT_GT(batch, 100);
  const DecodeTime full = time_decode(question, batch).value(), over = time_decode(question, batch + 1).value();
  EXPECT_LE(full.weights_gb + full.cache_gb, 0.92 * 141);
  EXPECT_GT(over.weights_gb + over.cache_gb, 0.92 * 141);
}

TEST(DecodeTime, RefusesNonsense) {
  DecodeQuestion question = question_of("grok-1", "dgx-h200-pod");
  EXPECT_FALSE(time_decode(question, 0).ok());
  question.context = 0;
  EXPECT_FALSE(time_decode(question, 1).ok());
}

}  // namespace
}  // namespace colossus
