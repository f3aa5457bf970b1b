#include "parallel/pipeline_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace colossus {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Kind = PipelineScheduleKind;

PipelineFigures play(const PipelineShape& shape, const PipelineTimes& times = {{{}}, 0}) {
  const auto stages = write_pipeline_schedule(shape);
  EXPECT_TRUE(stages.ok()) << stages.status().message();
  const auto figures = play_pipeline_schedule(shape, *stages, times);
  EXPECT_TRUE(figures.ok()) << figures.status().message();
  return figures.ok() ? *figures : PipelineFigures{};
}

TEST(PipelineSchedule, EveryShapeRunsThrough) {
  for (int stages = 1; stages <= 7; ++stages)
    for (int64_t microbatches = 1; microbatches <= 15; ++microbatches) {
      for (Kind kind : {Kind::kOneForwardOneBackward, Kind::kZeroBubble})
        play({.kind = kind, .num_stages = stages, .num_microbatches = microbatches});
      for (int chunks = 1; chunks <= 4; ++chunks)
        play(
            {.kind = Kind::kInterleaved, .num_stages = stages, .num_chunks = chunks, .num_microbatches = microbatches});
    }
}

// Narayanan et al. 2021, section 2.2: (p - 1) (t_f + t_b) beside m (t_f + t_b) of work; p - s microbatches held.
TEST(PipelineSchedule, OneForwardOneBackwardHasItsBubbleAndMemory) {
  const PipelineFigures figures = play({.num_stages = 4, .num_microbatches = 8}, {{{1, 1.5, 0.5}}, 0});
  EXPECT_DOUBLE_EQ(figures.makespan, (8 + 3) * 3.0);
  EXPECT_DOUBLE_EQ(figures.bubble_share, 3.0 / 11);
  EXPECT_EQ(figures.peak, (std::vector<int64_t>{4, 3, 2, 1}));
}

// The same paper: with v chunks of 1 / v of the work each, the bubble is 1 / v as long.
TEST(PipelineSchedule, InterleavingShortensTheBubble) {
  for (int chunks : {1, 2, 4}) {
    const double part = 1.0 / chunks;
    const PipelineFigures figures =
        play({.kind = Kind::kInterleaved, .num_stages = 4, .num_chunks = chunks, .num_microbatches = 16},
             {{{part, part, part}}, 0});
    EXPECT_NEAR(figures.makespan, 16 * 3.0 + 3 * 3.0 / chunks, 1e-9) << chunks;
  }
}

// Qi et al. 2023, table 2: ZB-H1 has a bubble of (p - 1) (t_f + t_b - t_w) and holds what 1F1B's first stage holds.
TEST(PipelineSchedule, ZeroBubbleHasAThirdOfTheBubble) {
  for (int stages : {2, 4, 8, 16}) {
    const PipelineFigures figures =
        play({.kind = Kind::kZeroBubble, .num_stages = stages, .num_microbatches = 3 * stages});
    EXPECT_DOUBLE_EQ(figures.makespan, 3 * 3 * stages + stages - 1) << stages;
    EXPECT_THAT(figures.peak, Each(stages)) << stages;
  }
}

TEST(PipelineSchedule, TransfersLengthenWhatWaitsForThem) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 1};
  EXPECT_DOUBLE_EQ(play(shape, {{{1, 1, 1}}, 0.25}).makespan, 6 + 2 * 0.25);
}

// The slow piece decides: 4 microbatches of it, behind one forward and before one backward of the other.
TEST(PipelineSchedule, PiecesMayDiffer) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 4};
  const PipelineFigures figures = play(shape, {{{1, 1, 1}, {2, 2, 2}}, 0});
  EXPECT_DOUBLE_EQ(figures.makespan, 1 + 4 * 6 + 2);
  EXPECT_DOUBLE_EQ(figures.starts[1].front(), 1);
}

TEST(PipelineSchedule, FaultsInAScheduleAreFound) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 2};
  const auto good = *write_pipeline_schedule(shape);
  const auto error = [&](auto change) {
    auto stages = good;
    change(stages);
    return play_pipeline_schedule(shape, stages).status().message();
  };
  EXPECT_THAT(error([](auto& s) { s[0].pop_back(); }), HasSubstr("chunk 0, microbatch 1 is not done"));
  EXPECT_THAT(error([](auto& s) { s[0].push_back(s[0].front()); }), HasSubstr("done twice"));
  EXPECT_THAT(error([](auto& s) { std::reverse(s[1].begin(), s[1].end()); }), HasSubstr("never comes"));
  EXPECT_THAT(error([](auto& s) { s[0].front().microbatch = 2; }), HasSubstr("microbatch 2, which is not there"));
  EXPECT_THAT(error([](auto& s) { s[1].back().work = PipelineWork::kBackwardWeight; }), HasSubstr("never comes"));
}

TEST(PipelineSchedule, SenselessShapesAreRefused) {
  EXPECT_THAT(write_pipeline_schedule({.num_stages = 0}).status().message(), HasSubstr("0 stages"));
  EXPECT_THAT(write_pipeline_schedule({.num_stages = 2, .num_chunks = 2}).status().message(),
              HasSubstr("need schedule = \"interleaved\""));
}

}  // namespace
}  // namespace colossus
