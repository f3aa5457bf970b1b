#include "base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/clock.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> steps_of(const TraceLane& lane) {
  std::vector<int64_t> steps;
  for (const TraceSpan& span : lane.spans()) steps.push_back(span.step);
  return steps;
}

TEST(Trace, RecordsTheStepsAskedFor) {
  Trace trace({.first_step = 3, .last_step = 4});
  TraceLane& lane = trace.lane("compute");
  const int32_t label = trace.label({.name = "work"});
  const auto work = [&] { const Traced traced(&trace, &lane, label); };
  EXPECT_FALSE(trace.recording());
  work();
  for (int64_t step = 1; step <= 6; ++step) {
    trace.begin_step(step);
    work();
    work();
  }
  EXPECT_THAT(steps_of(lane), ElementsAre(3, 3, 4, 4));
}

TEST(Trace, KeepsTheLastSpansOfALane) {
  for (const int64_t num_steps : {2, 3, 4, 8, 100}) {
    Trace trace({.max_spans = 3});
    for (int64_t step = 1; step <= num_steps; ++step) {
      trace.begin_step(step);
      const Traced traced(&trace, "lane", "work");
    }
    std::vector<int64_t> last;
    for (int64_t step = std::max<int64_t>(1, num_steps - 2); step <= num_steps; ++step) last.push_back(step);
    EXPECT_EQ(steps_of(trace.lane("lane")), last);
  }
}

TEST(Trace, WithoutOneNothingHappens) {
  const Traced looked_up(nullptr, "lane", "work");
  const Traced prepared(nullptr, nullptr, 0);
}

TEST(Trace, SpansEndBehindTheirBegin) {
  Trace trace;
  TraceLane& lane = trace.lane("lane");
  const double before = monotonic_seconds();
  {
    const Traced first(&trace, "lane", "first");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  { const Traced second(&trace, "lane", "second"); }
  const auto spans = lane.spans();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_LE(before, spans[0].begin);
  EXPECT_GE(spans[0].end - spans[0].begin, 1e-3);
  EXPECT_LE(spans[0].end, spans[1].begin);
  EXPECT_LE(spans[1].begin, spans[1].end);
  EXPECT_LE(spans[1].end, monotonic_seconds());
}

TEST(Trace, LanesAndLabelsAreThereOnce) {
  Trace trace;
  EXPECT_EQ(&trace.lane("a"), &trace.lane("a"));
  EXPECT_NE(&trace.lane("a"), &trace.lane("b"));
  EXPECT_EQ(trace.label({.name = "matmul", .scope = "x"}), trace.label({.name = "matmul", .scope = "x"}));
  EXPECT_NE(trace.label({.name = "matmul", .scope = "x"}), trace.label({.name = "matmul", .scope = "y"}));
}

TEST(Trace, EventsAreThoseOfTheFormat) {
  Trace trace;
  trace.begin_step(7);
  trace.lane("compute").add(
      {.begin = 100.25,
       .end = 100.5,
       .step = 7,
       .label =
           trace.label({.name = "all_gather", .category = "update,update", .scope = "layers.0", .sent_bytes = 4096})});
  EXPECT_EQ(trace.events(3, "rank 3", 0.5),
            R"({"ph":"M","name":"process_name","pid":3,"tid":0,"args":{"name":"rank 3"}},
{"ph":"M","name":"process_sort_index","pid":3,"tid":0,"args":{"sort_index":3}},
{"ph":"M","name":"thread_name","pid":3,"tid":0,"args":{"name":"compute"}},
{"ph":"M","name":"thread_sort_index","pid":3,"tid":0,"args":{"sort_index":0}},
{"ph":"X","name":"all_gather","cat":"update,update","pid":3,"tid":0,"ts":100750000.000,"dur":250000.000,"args":{"step":7,"scope":"layers.0","sent_bytes":4096}})");
}

// Threads of different lanes, and one that looks on.
TEST(Trace, ThreadsDoNotDisturbEachOther) {
  Trace trace({.max_spans = 50});
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&trace, lane = "lane" + std::to_string(i)] {
      for (int span = 0; span < 200; ++span) const Traced traced(&trace, lane.c_str(), "work");
    });
  for (int look = 0; look < 20; ++look) EXPECT_THAT(trace.events(0, "rank 0", 0), HasSubstr("process_name"));
  for (std::thread& thread : threads) thread.join();
  for (const char* lane : {"lane0", "lane1", "lane2"}) EXPECT_EQ(trace.lane(lane).spans().size(), 50u);
}

}  // namespace
}  // namespace colossus
