#include "train/verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Verification, ACrewIsWhoeverComputesAMicrobatchTogether) {
  const Crews data = crews_of({.data = 2, .shard = 3, .tensor = 2, .pipeline = 2});
  EXPECT_EQ(data.count, 6);
  EXPECT_EQ(data.of(0), 0);
  EXPECT_EQ(data.of(5), 2);
  EXPECT_EQ(data.of(12 + 5), 2) << "the same crew's second stage";
  EXPECT_EQ(data.counterpart(12 + 5, 4), 12 + 9);
  // Experts over two data ranks; and over one and a half, so that three are in it together.
  EXPECT_EQ(crews_of({.data = 4, .tensor = 2, .expert = 4}).count, 2);
  EXPECT_EQ(crews_of({.data = 6, .tensor = 2, .expert = 3}).count, 2);
  EXPECT_EQ(crews_of({.tensor = 4, .expert = 2}).count, 1);
}

TEST(Verification, EverybodyIsComparedWithEverybody) {
  for (const int64_t count : {2, 3, 4, 7}) {
    std::set<std::pair<int64_t, int64_t>> met;
    for (int64_t check = 5; check < 5 + count - 1; ++check) {
      std::set<int64_t> checked;
      for (int64_t crew = 0; crew < count; ++crew) {
        const int64_t whose = checked_by(crew, check, count);
        EXPECT_NE(whose, crew);
        EXPECT_EQ(checker_of(whose, check, count), crew);
        checked.insert(whose);
        met.emplace(crew, whose);
      }
      EXPECT_EQ(checked.size(), static_cast<size_t>(count)) << "in each check everybody is checked";
    }
    EXPECT_EQ(met.size(), static_cast<size_t>(count * (count - 1)));
  }
  EXPECT_EQ(checked_by(0, 3, 1), 0);
  EXPECT_EQ(checker_of(0, 3, 1), 0);
}

TEST(Verification, WhoeverHasOtherSharesChecksWhatItCan) {
  EXPECT_EQ(leaves_to_check({4, 8}, 0, 4, 8), (LeafRange{4, 8}));
  EXPECT_EQ(leaves_to_check({0, 6}, 0, 2, 8), (LeafRange{0, 2}));
  EXPECT_EQ(leaves_to_check({0, 6}, 5, 2, 8), (LeafRange{4, 6}));
  EXPECT_EQ(leaves_to_check({6, 8}, 0, 6, 8), (LeafRange{2, 8}));
  for (int64_t turn = 0; turn < 3; ++turn)
    for (int64_t size = 1; size <= 8; ++size) {
      const LeafRange leaves = leaves_to_check({5, 8}, turn, size, 8);
      EXPECT_EQ(leaves.size(), size);
      EXPECT_TRUE(leaves.begin >= 0 && leaves.end <= 8 && leaves.begin <= 5 + turn && 5 + turn < leaves.end);
    }
}

// Ranks that compute `right`, but for what is said otherwise, and the verdict.
class Court {
 public:
  explicit Court(int64_t num_ranks) : crews_(crews_of({.data = num_ranks})) {
    differences_.resize(static_cast<size_t>(num_ranks));
  }
  void differ(int64_t rank, uint64_t own, uint64_t checkers) {
    differences_[static_cast<size_t>(rank)] = {.turn = 1, .own = own, .checkers = checkers};
  }
  std::vector<Recheck> rechecks() const { return rechecks_of(differences_, crews_, 0); }
  // says(rank): what it finds when it is asked.
  template <class Says>
  CorruptionVerdict verdict(const Says& says) const {
    const auto rechecks = this->rechecks();
    std::vector<std::vector<uint64_t>> votes;
    for (int64_t rank = 0; rank < crews_.count; ++rank) votes.emplace_back(rechecks.size(), says(rank));
    return judge(differences_, rechecks, votes, crews_);
  }

 private:
  Crews crews_;
  std::vector<Difference> differences_;
};

constexpr uint64_t kRight = 7, kWrong = 8;

TEST(Verification, AThirdSaysWhoIsWrong) {
  // In check 0 rank 1's leaves are computed by rank 0.
  for (const bool owner_is_wrong : {true, false}) {
    Court court(4);
    court.differ(1, owner_is_wrong ? kWrong : kRight, owner_is_wrong ? kRight : kWrong);
    EXPECT_THAT(court.rechecks(), ElementsAre(Recheck{.owner = 1, .checker = 0, .turn = 1, .judges = {2}}));
    const CorruptionVerdict verdict = court.verdict([](int64_t) { return kRight; });
    EXPECT_THAT(verdict.wrong, ElementsAre(owner_is_wrong ? 1 : 0));
    EXPECT_THAT(verdict.undecided, IsEmpty());
  }
}

// Its own leaves and those it checks: one that errs always is in two disputes, and no judge.
TEST(Verification, OneThatAlwaysErrsIsNamedOnce) {
  Court court(4);
  court.differ(1, kWrong, kRight);
  court.differ(2, kRight, kWrong);
  const auto rechecks = court.rechecks();
  ASSERT_EQ(rechecks.size(), 2u);
  for (const Recheck& recheck : rechecks) EXPECT_THAT(recheck.judges, ElementsAre(3));
  EXPECT_THAT(court.verdict([](int64_t) { return kRight; }).wrong, ElementsAre(1));
  // Of three somebody has to judge.
  Court three(3);
  three.differ(1, kWrong, kRight);
  three.differ(2, kRight, kWrong);
  EXPECT_THAT(three.verdict([](int64_t) { return kRight; }).wrong, ElementsAre(1));
}

TEST(Verification, OfTwoOnlyAnErrorThatPassesIsFound) {
  Court court(2);
  court.differ(1, kWrong, kRight);
  EXPECT_THAT(court.rechecks(), ElementsAre(Recheck{.owner = 1, .checker = 0, .turn = 1, .judges = {1, 0}}));
  EXPECT_THAT(court.verdict([](int64_t) { return kRight; }).wrong, ElementsAre(1));
  const CorruptionVerdict lasting = court.verdict([](int64_t rank) { return rank == 1 ? kWrong : kRight; });
  EXPECT_THAT(lasting.wrong, IsEmpty());
  EXPECT_THAT(lasting.undecided, ElementsAre(0, 1));
}

TEST(Verification, OneAloneThatDiffersFromItselfIsWrong) {
  Court court(1);
  court.differ(0, kWrong, kRight);
  EXPECT_THAT(court.verdict([](int64_t) { return kRight; }).wrong, ElementsAre(0));
}

TEST(Verification, ThreeResultsDecideNothing) {
  Court court(3);
  court.differ(1, kWrong, kRight);
  const CorruptionVerdict verdict = court.verdict([](int64_t) { return uint64_t{9}; });
  EXPECT_THAT(verdict.wrong, IsEmpty());
  EXPECT_THAT(verdict.undecided, ElementsAre(0, 1, 2));
}

// Where tensor ranks share a microbatch, only the place that differs is named.
TEST(Verification, APlaceIsComparedWithTheSamePlace) {
  const Crews crews = crews_of({.data = 3, .tensor = 2});
  std::vector<Difference> differences(6);
  differences[3] = {.turn = 0, .own = kWrong, .checkers = kRight};
  const auto rechecks = rechecks_of(differences, crews, 0);
  ASSERT_EQ(rechecks.size(), 1u);
  const std::vector<std::vector<uint64_t>> votes(6, {kRight});
  EXPECT_THAT(judge(differences, rechecks, votes, crews).wrong, ElementsAre(3));
}

}  // namespace
}  // namespace colossus
