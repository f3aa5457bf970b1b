// How much of what outlives a program (parallel/pipeline_cut.h) a stage holds at once, and which place each step of its
// schedule uses: a pure function of the schedule, so that memory is known before the run.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "parallel/pipeline_schedule.h"

namespace colossus {

// What needs a place, and from when to when.
enum class StashKind : uint8_t {
  kForwardBackward,  // from a microbatch's forward to its backward step (kBackward or kBackwardInput) on the chunk
  kForwardWeight,    // to kBackwardWeight
  kBackwardWeight,   // from kBackwardInput to kBackwardWeight
  kOutbox,           // from the step that sends until the neighbour has taken it
  // Of what is received: each from the start of the step before the one that receives, so that it can come meanwhile.
  kInbox,                 // to the end of the step that receives
  kInboxForwardBackward,  // to those of the stashes above
  kInboxForwardWeight,
  kInboxBackwardWeight,
};
inline constexpr std::array kStashKinds = {StashKind::kForwardBackward,
                                           StashKind::kForwardWeight,
                                           StashKind::kBackwardWeight,
                                           StashKind::kOutbox,
                                           StashKind::kInbox,
                                           StashKind::kInboxForwardBackward,
                                           StashKind::kInboxForwardWeight,
                                           StashKind::kInboxBackwardWeight};
std::string_view stash_kind_name(StashKind kind);
// Of what is received and kept as long as `stash`, which is one of the first three.
StashKind inbox_like(StashKind stash);

template <class T>
struct ByStashKind : std::array<T, kStashKinds.size()> {
  using Base = std::array<T, kStashKinds.size()>;
  T& operator[](StashKind kind) { return Base::operator[](static_cast<size_t>(kind)); }
  const T& operator[](StashKind kind) const { return Base::operator[](static_cast<size_t>(kind)); }
};

struct SlotUse {
  int64_t count = 0;
  std::vector<int64_t> of_step;  // by step of the stage's list; -1 where none is held
};
using StageSlots = ByStashKind<SlotUse>;

// By stage. Outboxes are used in turn, and whoever finds his still busy waits. Too few would cost time, or let stages
// wait for each other in a circle: there are at least two, and as many as let the schedule run as fast as with any
// number, if a backward pass takes as long as two forward passes.
//
// Fails for lists that cannot run: see play_pipeline_schedule(); where two stages have the steps of a link in different
// orders; where a chunk adds into gradients in another order than that of microbatches.
Result<std::vector<StageSlots>> assign_stage_slots(const PipelineShape& shape,
                                                   const std::vector<std::vector<PipelineStep>>& stages);

}  // namespace colossus
