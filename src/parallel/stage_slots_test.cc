#include "parallel/stage_slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace colossus {
namespace {

using ::testing::HasSubstr;
using Kind = PipelineScheduleKind;

// As many stashes as microbatches are held, and outboxes that do not grow with their number.
TEST(StageSlots, AreFew) {
  for (int stages = 1; stages <= 8; ++stages)
    for (int64_t microbatches = 1; microbatches <= 20; ++microbatches)
      for (const auto& [kind, chunks] : {std::pair{Kind::kOneForwardOneBackward, 1}, std::pair{Kind::kInterleaved, 1},
                                         std::pair{Kind::kInterleaved, 2}, std::pair{Kind::kInterleaved, 4}}) {
        const PipelineShape shape = {
            .kind = kind, .num_stages = stages, .num_chunks = chunks, .num_microbatches = microbatches};
        const auto lists = *write_pipeline_schedule(shape);
        const auto slots = assign_stage_slots(shape, lists);
        ASSERT_TRUE(slots.ok()) << slots.status().message();
        const auto figures = *play_pipeline_schedule(shape, lists);
        for (size_t s = 0; s < lists.size(); ++s) {
          EXPECT_EQ((*slots)[s][StashKind::kForwardBackward].count, figures.peak[s]);
          EXPECT_EQ((*slots)[s][StashKind::kForwardWeight].count, 0);
          EXPECT_EQ((*slots)[s][StashKind::kBackwardWeight].count, 0);
          EXPECT_EQ((*slots)[s][StashKind::kOutbox].count, 2);
          EXPECT_LE((*slots)[s][StashKind::kInbox].count, 2);
          EXPECT_LE((*slots)[s][StashKind::kInboxForwardBackward].count, figures.peak[s] + 1);
          EXPECT_EQ((*slots)[s][StashKind::kInboxForwardWeight].count, 0);
        }
      }
}

// A stage far back holds few microbatches before their backward pass, and many whose weights are still to come.
TEST(StageSlots, ZeroBubbleHoldsEachKindAsLongAsItIsNeeded) {
  const PipelineShape shape = {.kind = Kind::kZeroBubble, .num_stages = 4, .num_microbatches = 9};
  const auto slots = *assign_stage_slots(shape, *write_pipeline_schedule(shape));
  for (int64_t s = 0; s < 4; ++s) {
    EXPECT_EQ(slots[static_cast<size_t>(s)][StashKind::kForwardBackward].count, 4 - s);
    EXPECT_EQ(slots[static_cast<size_t>(s)][StashKind::kForwardWeight].count, 4);
    EXPECT_EQ(slots[static_cast<size_t>(s)][StashKind::kBackwardWeight].count, s + 1);
  }
}

TEST(StageSlots, NoTwoMicrobatchesShareAStashWhileBothNeedIt) {
  for (const auto& [kind, chunks] : {std::pair{Kind::kInterleaved, 2}, std::pair{Kind::kZeroBubble, 1}}) {
    const PipelineShape shape = {.kind = kind, .num_stages = 3, .num_chunks = chunks, .num_microbatches = 9};
    const auto lists = *write_pipeline_schedule(shape);
    const auto slots = *assign_stage_slots(shape, lists);
    for (size_t s = 0; s < lists.size(); ++s)
      for (const StashKind stash :
           {StashKind::kForwardBackward, StashKind::kForwardWeight, StashKind::kBackwardWeight}) {
        std::map<int64_t, std::vector<std::pair<int, int64_t>>> users;  // of each slot, one after the other
        for (size_t i = 0; i < lists[s].size(); ++i) {
          const int64_t slot = slots[s][stash].of_step[i];
          ASSERT_LT(slot, slots[s][stash].count);
          const std::pair key{lists[s][i].chunk, lists[s][i].microbatch};
          if (slot >= 0 && (users[slot].empty() || users[slot].back() != key)) users[slot].push_back(key);
        }
        std::set<std::pair<int, int64_t>> all;
        for (const auto& [slot, keys] : users)
          for (const auto& key : keys) EXPECT_TRUE(all.insert(key).second) << "its slot had another user in between";
        const bool used = kind == Kind::kZeroBubble || stash == StashKind::kForwardBackward;
        EXPECT_EQ(all.size(), used ? static_cast<size_t>(9 * chunks) : 0u);
      }
  }
}

// What comes while the step before it runs has a place that neither this one nor any that is kept has.
TEST(StageSlots, AnInboxIsFreeFromTheStepBefore) {
  for (const auto& [kind, chunks] : {std::pair{Kind::kOneForwardOneBackward, 1}, std::pair{Kind::kInterleaved, 2},
                                     std::pair{Kind::kZeroBubble, 1}}) {
    const PipelineShape shape = {.kind = kind, .num_stages = 3, .num_chunks = chunks, .num_microbatches = 9};
    const auto lists = *write_pipeline_schedule(shape);
    const auto slots = *assign_stage_slots(shape, lists);
    for (size_t s = 0; s < lists.size(); ++s)
      for (const StashKind inbox : {StashKind::kInbox, StashKind::kInboxForwardBackward, StashKind::kInboxForwardWeight,
                                    StashKind::kInboxBackwardWeight}) {
        // Of each microbatch the steps from which on it is received and at which it is last read.
        std::map<std::tuple<PipelineWork, int, int64_t>, std::array<int64_t, 3>> kept;  // and its slot
        for (size_t i = 0; i < lists[s].size(); ++i) {
          const auto& [work, chunk, microbatch] = lists[s][i];
          const int64_t slot = slots[s][inbox].of_step[i], before = std::max<int64_t>(static_cast<int64_t>(i) - 1, 0);
          if (slot < 0) continue;
          const auto part = inbox == StashKind::kInbox ? work : PipelineWork::kForward;
          auto& of = kept.try_emplace({part, chunk, microbatch}, std::array{before, before, slot}).first->second;
          EXPECT_EQ(of[2], slot) << "it moved";
          of[1] = static_cast<int64_t>(i);
        }
        for (const auto& [key, a] : kept)
          for (const auto& [other, b] : kept) EXPECT_TRUE(key == other || a[2] != b[2] || a[1] < b[0] || b[1] < a[0]);
        if (s == 1 &&
            (inbox == StashKind::kInbox || kind == Kind::kZeroBubble || inbox == StashKind::kInboxForwardBackward))
          EXPECT_GE(kept.size(), 9u);
      }
  }
}

// The first piece has nobody to receive an activation from, the last one no gradient.
TEST(StageSlots, InboxesAreOfWhatIsReceived) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 3};
  const auto slots = *assign_stage_slots(shape, *write_pipeline_schedule(shape));
  const auto inbox = [&](size_t stage) { return slots[stage][StashKind::kInbox].of_step; };
  EXPECT_EQ(inbox(0), (std::vector<int64_t>{-1, -1, 0, -1, 0, 1}));  // F0 F1 B0 F2 B1 B2
  EXPECT_EQ(inbox(1), (std::vector<int64_t>{0, -1, 0, -1, 0, -1}));  // F0 B0 F1 B1 F2 B2
  EXPECT_EQ(slots[0][StashKind::kInboxForwardBackward].count, 0);
  EXPECT_EQ(slots[1][StashKind::kInboxForwardBackward].count, 2) << "one is kept while the next one comes";
}

// The first piece has nobody to send a gradient to, the last one no activation.
TEST(StageSlots, OutboxesAreUsedInTurnByWhatIsSent) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 3};
  const auto slots = *assign_stage_slots(shape, *write_pipeline_schedule(shape));
  const auto outbox = [&](size_t stage) { return slots[stage][StashKind::kOutbox].of_step; };
  EXPECT_EQ(outbox(0), (std::vector<int64_t>{0, 1, -1, 0, -1, -1}));  // F0 F1 B0 F2 B1 B2
  EXPECT_EQ(outbox(1), (std::vector<int64_t>{-1, 0, -1, 1, -1, 0}));  // F0 B0 F1 B1 F2 B2
}

// Dependencies alone would allow these lists; a link's order and the order of sums do not.
TEST(StageSlots, OrdersThatCannotRunAreRefused) {
  const PipelineShape shape = {.num_stages = 2, .num_microbatches = 2};
  using Work = PipelineWork;
  const std::vector<PipelineStep> good = {
      {Work::kForward, 0, 0}, {Work::kForward, 0, 1}, {Work::kBackward, 0, 0}, {Work::kBackward, 0, 1}};
  std::vector<PipelineStep> backwards = good, other = good;
  std::swap(backwards[2], backwards[3]);
  std::swap(other[0], other[1]);
  EXPECT_TRUE(assign_stage_slots(shape, {good, good}).ok());
  EXPECT_THAT(assign_stage_slots(shape, {good, backwards}).status().message(),
              HasSubstr("[stage 1] backward of chunk 0, microbatch 1 comes out of order"));
  EXPECT_THAT(assign_stage_slots(shape, {good, other}).status().message(),
              HasSubstr("[stage 1] forward of chunk 0, microbatch 1 is not what stage 0 sends next"));
}

}  // namespace
}  // namespace colossus
