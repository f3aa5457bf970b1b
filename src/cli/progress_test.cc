#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const ProgressState kTraining = {.label = "train",
                                 .unit = "steps",
                                 .done = 840,
                                 .total = 2000,
                                 .per_second = 3.2,
                                 .elapsed_seconds = 42,
                                 .fields = {{"loss", "2.31"}, {"", "1.2M tokens/s"}, {"", "65% of peak"}}};

TEST(ProgressLine, WideWindowShowsAll) {
  const std::string line = progress_bar_line(kTraining, {.interactive = true, .columns = 120, .unicode = false});
  EXPECT_EQ(line,
            "train ############..................  42% 840/2000 steps  left 6:03  3.20/s  loss 2.31  1.2M tokens/s  "
            "65% of peak");
}

TEST(ProgressLine, NeverFillsTheWindow) {
  for (const bool unicode : {false, true}) {
    for (int columns = 1; columns < 200; ++columns) {
      const Terminal terminal = {.interactive = true, .columns = columns, .unicode = unicode};
      EXPECT_LE(display_width(progress_bar_line(kTraining, terminal)), std::max(columns - 1, 1)) << columns;
    }
  }
}

TEST(ProgressLine, NarrowWindowDropsTheLastFieldsFirst) {
  const std::string line = progress_bar_line(kTraining, {.interactive = true, .columns = 70, .unicode = false});
  EXPECT_THAT(line, HasSubstr("left 6:03"));
  EXPECT_THAT(line, HasSubstr("loss 2.31"));
  EXPECT_THAT(line, Not(HasSubstr("peak")));
}

TEST(ProgressLine, UnknownTotalAndRateShowNeither) {
  const ProgressState state = {.label = "read", .unit = "bytes", .done = 1.5e6, .fields = {}};
  EXPECT_EQ(progress_bar_line(state, {.interactive = true, .columns = 80, .unicode = true}), "read 1.50 MB");
  EXPECT_EQ(progress_plain_line(state), "[0:00] read 1.50 MB");
}

TEST(ProgressLine, PlainLine) {
  EXPECT_EQ(progress_plain_line(kTraining),
            "[0:42] train 840/2000 steps (42%), 3.20 steps/s, left 6:03, loss 2.31, 1.2M tokens/s, 65% of peak");
}

TEST(ProgressLine, A99Point9PercentIsNotDone) {
  ProgressState state = kTraining;
  state.done = 1999;
  EXPECT_THAT(progress_plain_line(state), HasSubstr("(99%)"));
}

TEST(RateMeter, ForgetsASlowStart) {
  RateMeter rate;
  EXPECT_EQ(rate.per_second(), 0);
  rate.add(0, 100);  // resumed at 100
  rate.add(60, 101);
  for (int i = 1; i <= 300; ++i) rate.add(60 + i * 0.1, 101 + i);
  EXPECT_NEAR(rate.per_second(), 10, 0.5);
}

TEST(RateMeter, AnyCallRateGivesTheSameWindow) {
  RateMeter often;
  for (int i = 0; i <= 100'000; ++i) often.add(i * 1e-3, i < 90'000 ? 0 : i - 90'000);
  // The last 10 s of a 15 s window moved at 1000/s.
  EXPECT_NEAR(often.per_second(), 10'000 / 15.0, 40);
}

TEST(Format, DurationsAndWidths) {
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(1e300), "?");
  EXPECT_EQ(fit_to_columns("a━b", 2), "a━");
  EXPECT_EQ(display_width("a━b"), 3);
}

// Runs a job of `steps` updates `period` seconds apart.
std::string printed(bool interactive, int steps, double period) {
  std::string out;
  double now = 100;
  {
    Progress progress({.label = "job",
                       .unit = "steps",
                       .total = static_cast<double>(steps),
                       .print = [&](std::string_view text) { out += text; },
                       .terminal = [&] { return Terminal{.interactive = interactive, .columns = 60}; },
                       .clock = [&] { return now; }});
    for (int i = 1; i <= steps; ++i) {
      now += period;
      progress.update(i);
    }
    progress.finish();
  }
  return out;
}

int64_t num_lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(Progress, APipeGetsFewPlainLines) {
  const std::string day = printed(false, 86'400, 1);
  EXPECT_THAT(day, Not(HasSubstr("\r")));
  EXPECT_THAT(day, Not(HasSubstr("\x1b")));
  EXPECT_LT(num_lines(day), 1'600);
  EXPECT_GT(num_lines(day), 1'400);
  const std::string minute = printed(false, 600, 0.1);
  EXPECT_THAT(minute, StartsWith("[0:02] job "));
  EXPECT_GE(num_lines(minute), 10);
  EXPECT_LE(num_lines(minute), 15);
  EXPECT_THAT(minute, HasSubstr("[1:00] job 600/600 steps (100%)"));
  EXPECT_EQ(printed(false, 10, 0.1), "") << "what is over in a second says nothing in a pipe";
}

TEST(Progress, ATerminalGetsOneLineRewritten) {
  const std::string out = printed(true, 1000, 0.01);  // 10 s
  EXPECT_EQ(num_lines(out), 1);
  EXPECT_THAT(out, EndsWith("\n"));
  const int64_t redraws = std::count(out.begin(), out.end(), '\r');
  EXPECT_GT(redraws, 80);
  EXPECT_LT(redraws, 110);
  EXPECT_THAT(out, HasSubstr("100% 1000/1000 steps"));
}

TEST(Progress, NotesStayAboveTheBar) {
  std::string out;
  Progress progress({.label = "job",
                     .unit = "steps",
                     .total = 4,
                     .print = [&](std::string_view text) { out += text; },
                     .terminal = [] { return Terminal{.interactive = true, .columns = 40}; },
                     .clock = [] { return 0.0; }});
  progress.note("before");
  progress.update(1);
  out.clear();
  progress.note("eval 2.5");
  EXPECT_THAT(out, StartsWith("\r\x1b[Keval 2.5\n\rjob "));
}

}  // namespace
}  // namespace colossus
