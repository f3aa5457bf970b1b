#include "plan/search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "plan/small_question.h"

namespace colossus {
namespace {

// Every combination of small numbers, legal or not, judged one by one.
std::vector<JudgedLayout> judge_all(const PlanQuestion& question, int64_t zero_stage = 1) {
  const double room = 0.94 * question.cluster.pools[0].gpu.memory_gb * 1e9;
  std::vector<JudgedLayout> all;
  for (int64_t tensor = 1; tensor <= 16; ++tensor)
    for (int64_t context : {1, 2, 4, 8})
      for (int64_t pipeline = 1; pipeline <= 6; ++pipeline)
        for (int64_t chunks = 1; chunks <= 4; ++chunks)
          for (int64_t expert = 1; expert <= 4; ++expert)
            for (int64_t expert_tensor = 1; expert_tensor <= 4; ++expert_tensor)
              for (int64_t microbatch : {1, 2, 4})
                for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull})
                  for (const bool split : {false, true}) {
                    if (split && (pipeline == 1 || chunks > 1)) continue;
                    const int64_t of_model = tensor * context * pipeline;
                    if (of_model > 16) continue;
                    Layout layout;
                    layout.mesh = {.shard = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(16 / of_model))),
                                   .zero_stage = zero_stage,
                                   .context = context,
                                   .tensor = tensor,
                                   .expert = expert,
                                   .expert_tensor = expert_tensor,
                                   .pipeline = pipeline,
                                   .chunks = chunks};
                    if (chunks > 1) layout.mesh.schedule = PipelineScheduleKind::kInterleaved;
                    if (split) layout.mesh.schedule = PipelineScheduleKind::kZeroBubble;
                    layout.tokens = 1024;
                    layout.microbatch = microbatch;
                    layout.recompute = recompute;
                    const int64_t unit = microbatch * layout.mesh.shard;
                    if (64 % unit != 0) continue;
                    layout.batch = 64;
                    if (chunks > 1 && (pipeline == 1 || 4 % (chunks * pipeline) != 0)) continue;
                    if (expert_tensor != 1 && expert_tensor != tensor) continue;
                    if (4 % pipeline != 0 && 6 % pipeline != 0) continue;
                    auto judged = judge(question, ready_calibration(), layout);
                    if (judged.ok() && judged->memory.total() <= room) all.push_back(std::move(*judged));
                  }
  return all;
}

TEST(Search, FindsWhatLookingAtEverythingFinds) {
  for (const Family family : {Family::kLlama, Family::kGrok1}) {
    const PlanQuestion question = small_question(family);
    const std::vector<JudgedLayout> all = judge_all(question);
    ASSERT_GT(all.size(), 100u);
    const auto best = std::ranges::max_element(all, {}, &JudgedLayout::tokens_per_second);
    const auto found = search_layouts(question, ready_calibration(), {.keep = 5, .num_threads = 2});
    ASSERT_TRUE(found.ok()) << found.status().message();
    ASSERT_EQ(found->best.size(), 5u);
    EXPECT_NEAR(found->best.front().tokens_per_second / best->tokens_per_second, 1, 1e-9);
    EXPECT_EQ(print_config(found->best.front().layout.mesh), print_config(best->layout.mesh));
    for (size_t i = 1; i < found->best.size(); ++i)
      EXPECT_LE(found->best[i].tokens_per_second, found->best[i - 1].tokens_per_second);
    const auto alone = search_layouts(question, ready_calibration(), {.keep = 5, .num_threads = 1});
    for (size_t i = 0; i < found->best.size(); ++i)
      EXPECT_EQ(print_config(alone->best[i].layout.mesh), print_config(found->best[i].layout.mesh)) << "threads";
  }
}

// Of a stack that keeps one sum of its share: ours keeps those of leaves that wait for others, too.
TEST(Search, WhatDoesNotFitWithOneStageOfZeroHasTheNext) {
  PlanQuestion question = small_question(Family::kLlama);
  question.stack.data_overlap = 1;
  const auto least_of = [](const std::vector<JudgedLayout>& all) {
    return std::ranges::min_element(all, {}, [](const JudgedLayout& each) { return each.memory.total(); })
        ->memory.total();
  };
  const double with_one = least_of(judge_all(question, 1)), with_three = least_of(judge_all(question, 3));
  ASSERT_LT(with_three, 0.95 * with_one);
  question.cluster.pools[0].gpu.memory_gb = 0.99 * with_one / 0.94 / 1e9;
  std::vector<JudgedLayout> all = judge_all(question, 2);
  std::ranges::move(judge_all(question, 3), std::back_inserter(all));
  const auto best = std::ranges::max_element(all, {}, &JudgedLayout::tokens_per_second);
  const auto found = search_layouts(question, ready_calibration(), {.keep = 5, .num_threads = 2});
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_FALSE(found->best.empty());
  EXPECT_GT(found->best.front().layout.mesh.zero_stage, 1);
  EXPECT_NEAR(found->best.front().tokens_per_second / best->tokens_per_second, 1, 1e-9);
}

TEST(Search, WhereNothingFitsTheSmallestIsNamed) {
  PlanQuestion question = small_question(Family::kGrok1);
  question.cluster.pools[0].gpu.memory_gb = 0.5;
  const auto found = search_layouts(question, ready_calibration(), {});
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->best.empty());
  ASSERT_TRUE(found->smallest);
  EXPECT_GT(found->smallest->memory.total(), 0.5e9);
  EXPECT_EQ(found->legal, found->too_large);
}

TEST(Search, AnUnknownGpuIsNamed) {
  PlanQuestion question = small_question(Family::kLlama);
  question.cluster.pools[0].gpu.name = "abacus";
  EXPECT_THAT(search_layouts(question, ready_calibration(), {}).status().message(), testing::HasSubstr("abacus"));
}

}  // namespace
}  // namespace colossus
