#include "train/recovery/leader_election.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/rng.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

TEST(LeaderRecord, IsReadAsItIsWritten) {
  const LeaderRecord record = parse_leader_record(print_leader_record({7, "node-2.1234", 40})).value();
  EXPECT_EQ(record.term, 7);
  EXPECT_EQ(record.leader, "node-2.1234");
  EXPECT_EQ(record.renewals, 40);
  for (const char* text : {"", " ", "  ", "7", "7 a", "7  3", "0 a 1", "-1 a 1", "a 7 1", "7 a b", "7 a b 1", "7 a 1 ",
                           "7 a -1", "99999999999999999999 a 1", "7 a 1x"}) {
    const auto wrong = parse_leader_record(text);
    ASSERT_FALSE(wrong.ok()) << text;
    EXPECT_EQ(wrong.status().code(), ErrorCode::kCorrupt);
    EXPECT_THAT(wrong.status().message(), HasSubstr("is not a leader's record"));
  }
}

TEST(Election, IsWonByTheFirstAndKeptByRenewing) {
  const ElectionPolicy policy;
  Election a{.self = "a"}, b{.self = "b"};
  const LeaderWrite first = next_write(policy, a, std::nullopt, 100).value().value();
  EXPECT_EQ(first.expected, std::nullopt);
  EXPECT_EQ(first.value, "1 a 0");
  on_written(policy, a, first, WriteOutcome::kDone, 100);
  EXPECT_TRUE(a.lease.valid(107.9));
  EXPECT_FALSE(a.lease.valid(108));
  EXPECT_EQ(next_write(policy, a, "1 a 0", 101).value(), std::nullopt);
  const LeaderWrite renewal = next_write(policy, a, "1 a 0", 102).value().value();
  EXPECT_EQ(renewal.expected, "1 a 0");
  EXPECT_EQ(renewal.value, "1 a 1");
  on_written(policy, a, renewal, WriteOutcome::kDone, 102);
  EXPECT_TRUE(a.lease.valid(109.9));
  // The other's clock shows something else. It waits from when it first saw the record.
  EXPECT_EQ(next_write(policy, b, "1 a 0", 5000).value(), std::nullopt);
  EXPECT_EQ(next_write(policy, b, "1 a 1", 5009).value(), std::nullopt);
  EXPECT_EQ(next_write(policy, b, "1 a 1", 5019).value(), std::nullopt);
  const LeaderWrite second = next_write(policy, b, "1 a 1", 5019.1).value().value();
  EXPECT_EQ(second.expected, "1 a 1");
  EXPECT_EQ(second.value, "2 b 0");
  on_written(policy, b, second, WriteOutcome::kRefused, 5019.1);
  EXPECT_EQ(b.lease.term, 0);
  EXPECT_EQ(next_write(policy, b, "junk", 5020).status().code(), ErrorCode::kCorrupt);
}

TEST(Election, FindsAWriteWhoseAnswerWasLost) {
  const ElectionPolicy policy;
  Election a{.self = "a"};
  const LeaderWrite write = next_write(policy, a, std::nullopt, 100).value().value();
  on_written(policy, a, write, WriteOutcome::kUnknown, 100);
  EXPECT_FALSE(a.lease.valid(100));
  EXPECT_EQ(next_write(policy, a, "1 a 0", 101).value(), std::nullopt);
  EXPECT_EQ(a.lease.term, 1);
  EXPECT_DOUBLE_EQ(a.lease.valid_until, 108);
  // One of the same name that ran before is not oneself.
  Election again{.self = "a"};
  EXPECT_EQ(next_write(policy, again, "1 a 0", 0).value(), std::nullopt);
  EXPECT_EQ(again.lease.term, 0);
  EXPECT_EQ(next_write(policy, again, "1 a 0", 11).value().value().value, "2 a 0");
}

TEST(Fence, TakesEachDecisionOnceAndNoneOfThePast) {
  Fence fence;
  EXPECT_TRUE(fence.accepts(3, 1));
  EXPECT_FALSE(fence.accepts(3, 1));
  EXPECT_FALSE(fence.accepts(2, 2));
  EXPECT_TRUE(fence.accepts(3, 2));
  EXPECT_TRUE(fence.accepts(4, 3));
  EXPECT_FALSE(fence.accepts(3, 4));
}

// Candidates with clocks that differ and drift, pauses at any place, lost answers, late writes: never two leaders at
// one moment, terms only grow, and when all is calm there is a leader.
class Elections {
 public:
  explicit Elections(uint64_t seed) : key_{.seed = seed} {
    for (int i = 0; i < kCandidates; ++i) {
      candidates_.push_back(
          {.election = {.self = fmt::format("c{}", i)}, .offset = uniform() * 1000, .rate = 0.95 + 0.1 * uniform()});
    }
  }

  void play() {
    for (; time_ < 400; time_ += 0.1) {
      const bool calm = time_ > 300;
      for (Candidate& candidate : candidates_) {
        if (!calm && uniform() < 0.01) candidate.paused_until = time_ + 40 * uniform();
        if (time_ < candidate.paused_until || uniform() < 0.5) continue;
        act(candidate, calm);
      }
      for (size_t i = 0; i < late_.size();) {
        if (time_ < late_[i].first) {
          ++i;
          continue;
        }
        compare_and_set(late_[i].second);
        late_.erase(late_.begin() + static_cast<std::ptrdiff_t>(i));
      }
      int leaders = 0;
      for (const Candidate& candidate : candidates_) {
        leaders += candidate.election.lease.valid(candidate.clock(time_)) ? 1 : 0;
      }
      ASSERT_LE(leaders, 1) << "at " << time_;
      if (time_ > 350) {
        ASSERT_EQ(leaders, 1) << "at " << time_;
      }
      most_terms_ = std::max(most_terms_, highest_term_);
    }
  }
  int64_t num_terms() const { return most_terms_; }

 private:
  static constexpr int kCandidates = 4;
  struct Candidate {
    Election election;
    double offset, rate;
    double paused_until = 0;
    std::optional<LeaderWrite> write;  // decided, not sent
    double began = 0;

    double clock(double time) const { return offset + rate * time; }
  };

  double uniform() { return static_cast<double>(random_bits(key_, drawn_++)) / 4294967296.0; }

  // A step of a candidate: it reads, or sends what it had decided before a pause.
  void act(Candidate& candidate, bool calm) {
    if (!candidate.write) {
      candidate.began = candidate.clock(time_);
      candidate.write = next_write(policy_, candidate.election, record_, candidate.began).value();
      return;
    }
    const LeaderWrite write = *std::exchange(candidate.write, std::nullopt);
    WriteOutcome outcome = WriteOutcome::kUnknown;
    const double luck = calm ? 1 : uniform();
    if (luck < 0.1) {
      late_.emplace_back(time_ + 10 * uniform(), write);  // the answer is lost, the write is on its way
    } else {
      const bool done = compare_and_set(write);
      if (luck > 0.2) outcome = done ? WriteOutcome::kDone : WriteOutcome::kRefused;
    }
    on_written(policy_, candidate.election, write, outcome, candidate.began);
  }

  bool compare_and_set(const LeaderWrite& write) {
    if (record_ != write.expected) return false;
    record_ = write.value;
    EXPECT_GE(write.term, highest_term_);
    highest_term_ = write.term;
    return true;
  }

  const ElectionPolicy policy_;
  const RngKey key_;
  uint64_t drawn_ = 0;
  double time_ = 0;
  std::vector<Candidate> candidates_;
  std::optional<std::string> record_;
  std::vector<std::pair<double, LeaderWrite>> late_;
  int64_t highest_term_ = 0, most_terms_ = 0;
};

TEST(Election, NeverHasTwoLeaders) {
  int64_t num_terms = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Elections elections(seed);
    elections.play();
    num_terms += elections.num_terms();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(num_terms, 120) << "leadership hardly changed: this test saw nothing";
}

}  // namespace
}  // namespace colossus
