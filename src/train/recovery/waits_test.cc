#include "train/recovery/waits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing.h"
#include "train/recovery/membership.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNow = 1000;

FlightRecord done(int64_t collective, double ago) {
  return {.collective = collective,
          .op = "all_to_all",
          .step = 16,
          .sent_bytes = 8,
          .started = kNow - ago - 1,
          .finished = kNow - ago};
}
FlightRecord under_way(int64_t collective, double since) {
  return {.collective = collective,
          .op = "all_gather",
          .step = 17,
          .sent_bytes = 2'100'000,
          .received_bytes = 4'200'000,
          .started = kNow - since};
}

// Ranks 0 to 3 share two groups of two, which have a name in common, and one of all.
std::string text_of(int rank, std::vector<FlightRecord> pair, std::vector<FlightRecord> all) {
  const int first = rank / 2 * 2;
  return waits_text({{.group = "shard", .members = {first, first + 1}, .rank = rank % 2, .records = std::move(pair)},
                     {.group = "world", .members = {0, 1, 2, 3}, .rank = rank, .records = std::move(all)}},
                    kNow);
}

TEST(Waits, NobodyWaits) {
  EXPECT_EQ(who_waits(std::vector<std::string>{}), "");
  EXPECT_EQ(who_waits({"", text_of(1, {done(3, 2)}, {})}), "");
}

// Ranks 0 and 1 wait for rank 2, which waits for rank 3, which computes.
TEST(Waits, TheOneBehindAllIsNamed) {
  EXPECT_EQ(who_waits({text_of(0, {done(213, 14)}, {done(4, 20), under_way(5, 12)}),
                       text_of(1, {done(213, 14)}, {done(4, 20), under_way(5, 11)}),
                       text_of(2, {done(213, 14), under_way(214, 10)}, {done(4, 20)}),
                       text_of(3, {done(213, 14)}, {done(4, 20)})}),
            "[group shard] rank 3 has not reached all_gather 214 (step 17) of 4.2 MB, where rank 2 waits since 10.0 s; "
            "its last was all_to_all 213 (step 16), done 14.0 s ago\n"
            "[group world] rank 2 has not reached all_gather 5 (step 17) of 4.2 MB, where ranks 0, 1 wait since "
            "12.0 s; its last was all_to_all 4 (step 16), done 20.0 s ago\n"
            "[group world] rank 3 has not reached all_gather 5 (step 17) of 4.2 MB, where ranks 0, 1 wait since "
            "12.0 s; its last was all_to_all 4 (step 16), done 20.0 s ago");
}

// A process that stands still tells nothing.
TEST(Waits, ARankThatToldNothingIsNamed) {
  EXPECT_EQ(who_waits({text_of(2, {done(3, 14), under_way(4, 10)}, {})}),
            "[group shard] rank 3 has sent no records; rank 2 waits in all_gather 4 (step 17) of 4.2 MB since 10.0 s");
}

TEST(Waits, MessagesKeepTheirPeers) {
  const FlightRecord receiving{.op = "receive", .step = 17, .from = 1, .started = kNow - 5};
  EXPECT_THAT(who_waits({text_of(2, {receiving}, {}), text_of(3, {done(3, 14)}, {})}),
              HasSubstr("rank 2 waits in receive from rank 3 (step 17) since 5.0 s for rank 3; its last was "
                        "all_to_all 3 (step 16), done 14.0 s ago"));
}

// Every cut and every changed letter of a text: it is read or left out.
TEST(Waits, DamagedTextsDoNoHarm) {
  const std::string other = text_of(1, {done(3, 14)}, {}), text = text_of(0, {done(3, 14), under_way(4, 10)}, {});
  EXPECT_THAT(who_waits({other, text}), HasSubstr("rank 1 has not reached"));
  for (size_t at = 0; at < text.size(); ++at) {
    static_cast<void>(who_waits({other, text.substr(0, at)}));
    for (const char letter : {' ', '\n', '-', '9', 'x', '\0'}) {
      std::string damaged = text;
      damaged[at] = letter;
      static_cast<void>(who_waits({other, damaged}));
    }
  }
  EXPECT_THAT(who_waits({"group a 0 99999999999 1", "group a 2 2 0 1", "group a 0 1 0\nrecord x"}), IsEmpty());
}

TEST(Waits, OnlyTheCurrentGenerationCounts) {
  const TemporaryDirectory directory;
  const auto store = *open_directory_store(directory.path());
  EXPECT_EQ(who_waits(*store), "");
  for (const int64_t generation : {1, 2}) {
    ASSERT_TRUE(publish(*store, {.id = generation, .shard = 2, .workers = {"w0", "w1"}}).ok());
    EXPECT_EQ(who_waits(*store), "");
    ASSERT_TRUE(report_waits(*store, generation, "w0", text_of(0, {under_way(4, 10)}, {})).ok());
    EXPECT_THAT(who_waits(*store), HasSubstr("rank 1 has sent no records; rank 0 waits in all_gather 4"));
  }
}

}  // namespace
}  // namespace colossus
