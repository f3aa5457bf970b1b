#include "plan/published_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace colossus {
namespace {

using ::testing::HasSubstr;

// A row that can be played, with some fields changed.
Result<PublishedRun> read(const std::map<std::string, std::string>& changes) {
  std::map<std::string, std::string> row = {{"source", "a paper"},
                                            {"name", "grok1-512"},
                                            {"gpu", "H100-SXM5-80GB"},
                                            {"count", "512"},
                                            {"tp", "4"},
                                            {"pp", "8"},
                                            {"vpp", "8"},
                                            {"cp", "2"},
                                            {"ep", "8"},
                                            {"dp", "8"},
                                            {"micro_batch", "1"},
                                            {"global_batch", "1024"},
                                            {"seq", "8192"},
                                            {"layers", "64"},
                                            {"hidden", "6144"},
                                            {"ffn", "32768"},
                                            {"heads", "48"},
                                            {"kv_heads", "8"},
                                            {"vocab", "131072"},
                                            {"experts", "8"},
                                            {"topk", "2"},
                                            {"dtype", "bf16"},
                                            {"recompute", ""},
                                            {"tflops_per_gpu", ""},
                                            {"mfu", ""},
                                            {"step_seconds", "20.83"},
                                            {"tokens_per_s", ""},
                                            {"verified", "yes"}};
  for (const auto& [column, value] : changes) row[column] = value;
  std::string header, line;
  for (const auto& [column, value] : row) {
    header += (header.empty() ? "" : ",") + column;
    line += (line.empty() ? "" : ",") + value;
  }
  return read_published_run(*CsvTable::parse(header + "\n" + line + "\n", "t.csv"), 0);
}

TEST(PublishedRun, ARowIsAModelALayoutAndATime) {
  const auto run = read({});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->model.family, Family::kGrok1);
  EXPECT_EQ(run->model.expert_width, 32768);
  EXPECT_EQ(run->layout.mesh.num_ranks(), 512);
  EXPECT_EQ(run->layout.mesh.schedule, PipelineScheduleKind::kInterleaved);
  EXPECT_EQ(run->layout.num_microbatches(), 128);
  EXPECT_DOUBLE_EQ(run->step_seconds, 20.83);
}

TEST(PublishedRun, WhatIsLeftOutIsFilledByRule) {
  EXPECT_EQ(read({{"dp", ""}})->layout.mesh.shard, 8);
  const auto run = read({{"micro_batch", ""}, {"vpp", ""}, {"kv_heads", ""}, {"recompute", "full"}});
  ASSERT_TRUE(run.ok());
  EXPECT_FALSE(run->microbatch_stated);
  EXPECT_EQ(run->layout.mesh.chunks, 64 / 8) << "one layer each";
  EXPECT_EQ(run->filled, "chunks 8; ");
  EXPECT_EQ(read({{"vpp", ""}, {"layers", "63"}})->layout.mesh.chunks, 1) << "which 8 stages cannot share evenly";
  EXPECT_EQ(run->model.num_kv_heads, 48);
  EXPECT_EQ(run->layout.recompute, Recompute::kFull);
  // The time from whatever rate there is.
  EXPECT_DOUBLE_EQ(read({{"step_seconds", ""}, {"tokens_per_s", "1048576"}})->step_seconds, 8);
  const auto by_flops = read({{"step_seconds", ""}, {"tflops_per_gpu", "400"}});
  EXPECT_NEAR(by_flops->step_seconds * 400e12 * 512 / model_flops_of_step(by_flops->model, by_flops->layout), 1, 1e-12);
}

TEST(PublishedRun, BlocksFourTimesAsWideHaveNoGate) {
  const std::map<std::string, std::string> dense = {{"experts", "1"}, {"ep", "1"}, {"topk", "1"}};
  auto gpt = dense, llama = dense;
  gpt["ffn"] = "24576";
  llama["ffn"] = "16384";
  EXPECT_EQ(read(gpt)->model.family, Family::kGpt2);
  EXPECT_EQ(read(llama)->model.family, Family::kLlama);
  EXPECT_EQ(read(llama)->model.num_experts, 0);
}

TEST(PublishedRun, WhatIsComputedAgainMayBeTheExperts) {
  EXPECT_FALSE(read({{"recompute", "\"moe_act,layernorm\""}})->experts_again);
  const auto run = read({{"recompute", "\"layernorm,moe\""}});
  EXPECT_TRUE(run->experts_again);
  EXPECT_EQ(run->layout.recompute, Recompute::kSelective);
}

TEST(PublishedRun, NemotronSquaresItsActivation) {
  const auto run = read({{"name", "nemotron15b"}, {"experts", "1"}, {"ep", "1"}, {"topk", "1"}, {"ffn", "24576"}});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->model.activation, ActivationKind::kRelu2);
  EXPECT_EQ(run->model.head_dim, 6144 / 48);
}

TEST(PublishedRun, RowsThatCannotBePlayedSayWhy) {
  const auto error = [](const std::map<std::string, std::string>& changes) { return read(changes).status().message(); };
  EXPECT_THAT(error({{"layers", ""}}), HasSubstr("layers is not given"));
  EXPECT_THAT(error({{"layers", "sixty"}}), HasSubstr("layers = \"sixty\"; needed a number"));
  EXPECT_THAT(error({{"layers", "6.5"}}), HasSubstr("needed a whole number"));
  EXPECT_THAT(error({{"layers", "1e300"}}), HasSubstr("needed a number from 1"));
  EXPECT_THAT(error({{"hidden", "nan"}}), HasSubstr("needed a number"));
  EXPECT_THAT(error({{"count", "500"}}), HasSubstr("is no multiple of tp x pp x cp = 4 x 8 x 2"));
  EXPECT_THAT(error({{"dp", "4"}}), HasSubstr("tp x pp x cp x dp = 256, but count = 512"));
  EXPECT_THAT(error({{"global_batch", ""}}), HasSubstr("global_batch is not given"));
  EXPECT_THAT(error({{"tp", ""}}), HasSubstr("tp is not given"));
  EXPECT_THAT(error({{"global_batch", "1025"}}), HasSubstr("does not divide global_batch = 1025"));
  EXPECT_THAT(error({{"kv_heads", "7"}}), HasSubstr("does not divide heads"));
  EXPECT_THAT(error({{"dtype", "int3"}}), HasSubstr("dtype = \"int3\""));
  EXPECT_THAT(error({{"step_seconds", ""}}), HasSubstr("neither step_seconds"));
  EXPECT_THAT(error({{"name", "deepseekv3-256"}}), HasSubstr("latent attention"));
  EXPECT_THAT(error({{"topk", "9"}}), HasSubstr("topk is more than experts"));
}

}  // namespace
}  // namespace colossus
