// What a rank's memory holds during a step, by kind.
#pragma once

#include "plan/rank_pieces.h"

namespace colossus {

// Bytes for each parameter of a rank, by what keeps them: fp32 weights, gradients and AdamW's two moments by default,
// as our own programs have it; training in bf16 keeps a rounded copy beside weights that are cut with the moments.
struct StateBytes {
  double weights = 4;  // on every rank that computes with them
  double gradients = 4;
  double optimizer = 8;  // cut over the data ranks (ZeRO 1)
};
inline constexpr StateBytes kMixedState = {.weights = 2, .gradients = 4, .optimizer = 12};

// Of the rank that needs most, in bytes.
struct RankMemory {
  double weights = 0, gradients = 0, optimizer = 0;
  double stashes = 0;  // what forward passes leave for backward passes, of all microbatches in flight
  double arena = 0;    // within a program: a pass, or the update, whose room is that of the passes
  double state() const { return weights + gradients + optimizer; }
  double total() const { return state() + stashes + arena; }
};

// How many of each stash the stages of a layout hold: StageSlot's counts, by stage.
using StashCounts = std::vector<std::array<int64_t, kStashKinds.size()>>;
Result<StashCounts> count_stashes(const Layout& layout);

Result<RankMemory> memory_of(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                             const StashCounts& stashes, const StateBytes& state);
Result<RankMemory> memory_of(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                             const StateBytes& state);

}  // namespace colossus
