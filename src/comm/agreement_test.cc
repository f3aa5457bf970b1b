#include "comm/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/testing.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Agreement, AloneWhatOneHasIsAllThereIs) {
  const CommGroup group = make_thread_group({.size = 1});
  for (Communicator* ranks : {static_cast<Communicator*>(nullptr), group[0].get()}) {
    EXPECT_TRUE(agree(ranks, ok_status()).ok());
    EXPECT_EQ(agree(ranks, not_found("gone")).message(), "gone");
    EXPECT_THAT(*gather_texts(ranks, std::string("abc"), 3), ElementsAre("abc"));
    EXPECT_EQ(gather_texts(ranks, std::string("abcd"), 3).status().code(), ErrorCode::kExhausted);
    EXPECT_EQ(gather_texts(ranks, corrupt("bad"), 3).status().message(), "bad");
    EXPECT_THAT(*lines_of_first(ranks, std::vector<std::string>{"a", ""}), ElementsAre("a", ""));
    EXPECT_EQ(lines_of_first(ranks, corrupt("bad")).status().message(), "bad");
  }
}

TEST(Agreement, TheLowestRanksErrorIsEverybodys) {
  const CommGroup group = make_thread_group({.size = 4});
  for (int failing = 0; failing < 16; ++failing) {  // a set of ranks
    on_all_ranks(group, [&](Communicator& ranks) {
      const auto mine = [&] {
        return (failing >> ranks.rank() & 1) == 0 ? ok_status()
                                                  : exhausted(fmt::format("disk {} is full", ranks.rank()));
      };
      const Status agreed = agree(&ranks, mine());
      const Status gathered =
          gather_texts(&ranks, mine().ok() ? Result<std::string>("text") : Result<std::string>(mine()), 100).status();
      for (const Status& status : {agreed, gathered}) {
        EXPECT_EQ(status.ok(), failing == 0);
        if (failing == 0) continue;
        const int lowest = __builtin_ctz(static_cast<unsigned>(failing));
        EXPECT_EQ(status.code(), ErrorCode::kExhausted);
        EXPECT_EQ(status.message(), fmt::format("rank {}: disk {} is full", lowest, lowest));
      }
    });
  }
}

TEST(Agreement, TextsOfAnyLengthArriveOnRankZero) {
  const CommGroup group = make_thread_group({.size = 3});
  const std::string texts[] = {"", std::string(5'000'000, 'b'), "c"};
  on_all_ranks(group, [&](Communicator& ranks) {
    const auto gathered = gather_texts(&ranks, texts[ranks.rank()], 10'000'000);
    ASSERT_TRUE(gathered.ok()) << gathered.status().message();
    if (ranks.rank() == 0)
      EXPECT_TRUE(std::equal(gathered->begin(), gathered->end(), std::begin(texts), std::end(texts)));
    else
      EXPECT_THAT(*gathered, IsEmpty());
    // Too much for all together, though not for one; the group goes on.
    EXPECT_EQ(gather_texts(&ranks, texts[ranks.rank()], 5'000'000).status().code(), ErrorCode::kExhausted);
    EXPECT_TRUE(agree(&ranks, ok_status()).ok());
  });
}

TEST(Agreement, TheFirstRanksLinesAreEverybodys) {
  const CommGroup group = make_thread_group({.size = 3});
  const std::vector<std::string> kLists[] = {{}, {""}, {"a", "", "long line"}};
  for (const auto& list : kLists)
    on_all_ranks(group, [&](Communicator& ranks) {
      Result<std::vector<std::string>> mine = not_found("a directory that only rank 0 sees");
      if (ranks.rank() == 0) mine = list;
      EXPECT_EQ(*lines_of_first(&ranks, mine), list);
    });
  on_all_ranks(group, [&](Communicator& ranks) {
    Result<std::vector<std::string>> mine = kLists[2];
    if (ranks.rank() == 0) mine = unavailable("no access");
    EXPECT_EQ(lines_of_first(&ranks, mine).status().message(), "rank 0: no access");
  });
}

TEST(Agreement, ALongMessageIsCut) {
  const CommGroup group = make_thread_group({.size = 2});
  on_all_ranks(group, [&](Communicator& ranks) {
    const Status status = agree(&ranks, ranks.rank() == 1 ? corrupt(std::string(1'000'000, 'x')) : ok_status());
    EXPECT_THAT(status.message(), SizeIs(8 + 4096));
  });
}

TEST(Agreement, APeerThatIsGoneIsNamed) {
  CommGroup group = make_thread_group({.size = 3});
  group[2].reset();
  in_threads(2, [&](int rank) {
    const Status status = agree(group[static_cast<size_t>(rank)].get(), ok_status());
    EXPECT_THAT(status.message(), HasSubstr("rank 2"));
  });
}

}  // namespace
}  // namespace colossus
