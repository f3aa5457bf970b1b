#include "comm/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(FlightRecorder, KeepsTheLastInOrder) {
  FlightRecorder recorder;
  EXPECT_TRUE(recorder.records().empty());
  int64_t first = -1;
  for (int i = 0; i < 100; ++i) {
    const int64_t sequence = recorder.start({.op = "all_gather", .step = i, .sent_bytes = i, .received_bytes = 2 * i});
    if (i == 0) first = sequence;
    if (i != 0 && i != 98) recorder.finish(sequence, i == 99);
  }
  recorder.finish(first, true);  // long overwritten, by the 64th
  const std::vector<FlightRecord> records = recorder.records();
  ASSERT_EQ(records.size(), static_cast<size_t>(FlightRecorder::kCapacity));
  for (size_t i = 0; i < records.size(); ++i) {
    const int64_t number = static_cast<int64_t>(i) + 100 - FlightRecorder::kCapacity;
    EXPECT_EQ(records[i].sequence, number);
    EXPECT_EQ(records[i].collective, number);
    EXPECT_EQ(records[i].step, number);
    EXPECT_EQ(records[i].sent_bytes, number);
    EXPECT_EQ(records[i].received_bytes, 2 * number);
    EXPECT_EQ(records[i].under_way(), number == 98);
    EXPECT_EQ(records[i].failed, number == 99);
    if (number != 98) {
      EXPECT_GE(records[i].finished, records[i].started);
    }
  }
}

TEST(FlightRecorder, NumbersCollectivesApartFromMessages) {
  FlightRecorder recorder;
  recorder.start({.op = "all_gather"});
  recorder.start({.op = "send", .to = 1});
  recorder.start({.op = "receive", .from = 1});
  recorder.start({.op = "barrier"});
  const std::vector<FlightRecord> records = recorder.records();
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[0].collective, 0);
  EXPECT_EQ(records[1].collective, -1);
  EXPECT_EQ(records[2].collective, -1);
  EXPECT_EQ(records[3].collective, 1);
  EXPECT_EQ(records[3].sequence, 3);
}

TEST(FlightRecorder, CanBeReadMeanwhile) {
  FlightRecorder recorder;
  std::thread writer([&] {
    for (int i = 0; i < 5000; ++i) recorder.finish(recorder.start({.op = "send", .step = i, .to = i}), false);
  });
  for (int i = 0; i < 200; ++i) {
    for (const FlightRecord& record : recorder.records()) EXPECT_EQ(record.step, record.to);
  }
  writer.join();
}

// Ranks at time 100: of each its last operations, as (collective, op, started, finished).
FlightRecord done(int64_t collective, std::string_view op = "all_gather") {
  return {.collective = collective, .op = op, .step = 12, .sent_bytes = 8, .started = 60, .finished = 69};
}
FlightRecord under_way(int64_t collective, std::string_view op = "all_gather", double started = 70) {
  return {.collective = collective, .op = op, .step = 12, .sent_bytes = 8, .started = started};
}
FlightRecord waiting_for(int from, double started = 70) {
  return {.op = "receive", .step = 12, .from = from, .started = started};
}
std::string judged(int size, const std::vector<RankRecords>& ranks) {
  std::vector<int> members(static_cast<size_t>(size));
  std::iota(members.begin(), members.end(), 0);
  return who_waits_for_whom("data", members, ranks, 100);
}

TEST(WhoWaitsForWhom, SaysNothingWhenNobodyWaits) {
  EXPECT_EQ(judged(0, {}), "");
  EXPECT_EQ(judged(3, {{0, {done(1)}}, {1, {done(2)}}}), "");
}

TEST(WhoWaitsForWhom, NamesTheRankThatLags) {
  EXPECT_EQ(judged(4, {{0, {done(16), under_way(17)}},
                       {1, {done(16), under_way(17, "all_gather", 69.9)}},
                       {2, {done(16), under_way(17, "all_gather", 75)}},
                       {3, {done(16, "all_to_all")}}}),
            "[group data] rank 3 has not reached all_gather 17 (step 12), where ranks 0, 1, 2 wait since 30.1 s; its "
            "last was all_to_all 16 (step 12), done 31.0 s ago\n");
}

TEST(WhoWaitsForWhom, CallsRanksByTheirNumbersInTheRun) {
  FlightRecord large = under_way(17);
  large.sent_bytes = 4'200'000;
  EXPECT_EQ(who_waits_for_whom("shard", {2, 5, 8}, {{0, {done(16), large}}, {1, {waiting_for(0)}}}, 100),
            "[group shard] rank 5 has not reached all_gather 17 (step 12) of 4.2 MB, where rank 2 waits since 30.0 s; "
            "it waits in receive from rank 2 (step 12) since 30.0 s\n"
            "[group shard] rank 5 waits in receive from rank 2 (step 12) since 30.0 s for rank 2; it waits in "
            "all_gather 17 (step 12) since 30.0 s\n"
            "[group shard] rank 8 has sent no records; rank 2 waits in all_gather 17 (step 12) of 4.2 MB since 30.0 "
            "s\n");
}

TEST(WhoWaitsForWhom, FollowsAChain) {
  // 0 waits for 1, which waits for 2, which does something else.
  const std::string text = judged(
      3, {{0, {done(16, "broadcast"), under_way(17)}}, {1, {done(15), under_way(16, "broadcast")}}, {2, {done(15)}}});
  EXPECT_THAT(text,
              HasSubstr("rank 2 has not reached broadcast 16 (step 12), where rank 1 waits since 30.0 s; its last "
                        "was all_gather 15"));
  EXPECT_THAT(text, HasSubstr("rank 1 has not reached all_gather 17 (step 12), where rank 0 waits since 30.0 s; it "
                              "waits in broadcast 16 (step 12) since 30.0 s"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(WhoWaitsForWhom, SeesARankThatNeverBegan) {
  EXPECT_THAT(judged(2, {{0, {under_way(0)}}, {1, {}}}),
              HasSubstr("rank 1 has not reached all_gather 0 (step 12), where rank 0 waits since 30.0 s; it has done "
                        "nothing yet"));
}

TEST(WhoWaitsForWhom, NamesRanksWithoutRecords) {
  EXPECT_EQ(judged(3, {{0, {under_way(17)}}, {1, {under_way(17)}}}),
            "[group data] rank 2 has sent no records; ranks 0, 1 wait in all_gather 17 (step 12) since 30.0 s\n");
  // The one to look for is the one that those behind wait for.
  EXPECT_EQ(judged(3, {{0, {under_way(18)}}, {1, {under_way(17)}}}),
            "[group data] rank 1 has not reached all_gather 18 (step 12), where rank 0 waits since 30.0 s; it waits in "
            "all_gather 17 (step 12) since 30.0 s\n"
            "[group data] rank 2 has sent no records; rank 1 waits in all_gather 17 (step 12) since 30.0 s\n");
}

TEST(WhoWaitsForWhom, SeesRanksInMessages) {
  const std::string text = judged(3, {{0, {waiting_for(1)}}, {1, {waiting_for(2)}}, {2, {done(4)}}});
  EXPECT_THAT(text, HasSubstr("rank 0 waits in receive from rank 1 (step 12) since 30.0 s for rank 1; it waits in "
                              "receive from rank 2 (step 12) since 30.0 s"));
  EXPECT_THAT(text, HasSubstr("rank 1 waits in receive from rank 2 (step 12) since 30.0 s for rank 2; its last was "
                              "all_gather 4 (step 12), done 31.0 s ago"));
  const FlightRecord sending = {.op = "send", .step = 12, .to = 0, .started = 90};
  EXPECT_THAT(judged(2, {{0, {waiting_for(1)}}, {1, {sending}}}), HasSubstr("for rank 1, which is there; it waits in "
                                                                            "send to rank 0 (step 12) since 10.0 s"));
  EXPECT_THAT(judged(2, {{0, {waiting_for(1)}}}), HasSubstr("for rank 1, of which there are no records"));
}

TEST(WhoWaitsForWhom, SeesARankInAMessageThatACollectiveWaitsFor) {
  EXPECT_THAT(judged(2, {{0, {done(3), under_way(4)}}, {1, {done(3), waiting_for(0)}}}),
              AllOf(HasSubstr("rank 1 has not reached all_gather 4"), HasSubstr("it waits in receive from rank 0"),
                    HasSubstr("rank 1 waits in receive from rank 0 (step 12) since 30.0 s for rank 0; it waits in "
                              "all_gather 4")));
}

TEST(WhoWaitsForWhom, SeesDifferentPrograms) {
  EXPECT_THAT(judged(2, {{0, {under_way(17)}}, {1, {under_way(17, "all_to_all")}}}),
              HasSubstr("rank 1 called all_to_all 17 (step 12) with 8 bytes to send, where rank 0 called all_gather 17 "
                        "(step 12) with 8: they do not run the same program"));
  FlightRecord longer = under_way(17);
  longer.sent_bytes = 16;
  EXPECT_THAT(judged(2, {{0, {under_way(17)}}, {1, {longer}}}), HasSubstr("with 16 bytes to send"));
  // Sizes of an all-to-all differ as they like.
  FlightRecord other = under_way(17, "all_to_all");
  other.sent_bytes = 16;
  EXPECT_THAT(judged(2, {{0, {under_way(17, "all_to_all")}}, {1, {other}}}), Not(HasSubstr("same program")));
}

TEST(WhoWaitsForWhom, SeesAFailureAndAHangingTransfer) {
  FlightRecord failed = done(17);
  failed.failed = true;
  EXPECT_EQ(judged(2, {{0, {under_way(17)}}, {1, {failed}}}),
            "[group data] rank 1 failed in all_gather 17 (step 12), where rank 0 waits since 30.0 s\n");
  EXPECT_EQ(judged(2, {{0, {under_way(17)}}, {1, {under_way(17)}}}),
            "[group data] every rank has reached all_gather 17 (step 12), and ranks 0, 1 wait since 30.0 s: a transfer "
            "hangs\n");
}

}  // namespace
}  // namespace colossus
