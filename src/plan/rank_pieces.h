// The programs of a layout's ranks, small: layers are alike, so what a piece of n layers takes follows from the same
// piece with one layer and with two. They are written by what writes those of real runs (train/rank_model.h).
#pragma once

#include <array>

#include "device/sim/play.h"
#include "parallel/stage_slots.h"
#include "plan/layout.h"

namespace colossus {

// A number that grows by the layer.
struct PerLayer {
  double one = 0, two = 0;  // of one layer and of two
  double at(double layers) const { return one + (two - one) * (layers - 1); }
};

// Which of the model's ends a piece has.
enum class PieceKind : uint8_t { kFirst, kMiddle, kLast, kWhole };
inline constexpr size_t kNumPieceKinds = 4;

struct PieceProgram {
  PlayableProgram works;
  int64_t arena_bytes = 0;
};
struct PiecePrograms {
  PieceProgram forward;          // of kWhole both passes
  PieceProgram backward;         // none of kWhole
  PieceProgram backward_weight;  // none unless split
  ByStashKind<int64_t> stash_bytes{};
};

struct RankPieces {
  bool has_pipeline = false;
  std::array<std::array<PiecePrograms, 2>, kNumPieceKinds> pieces;  // [kind][layers - 1]
  // Between the microbatches and the next step: the whole model on one stage, with one layer and with two.
  std::array<PlayableProgram, 2> update;
  // Elements of parameters on a rank.
  int64_t first_parameters = 0, layer_parameters = 0, last_parameters = 0;
  // Of these those of experts: they lie on other ranks than the rest.
  int64_t layer_expert_parameters = 0;

  const std::array<PiecePrograms, 2>& of(PieceKind kind) const { return pieces[static_cast<size_t>(kind)]; }
};

// Fails where the model cannot be cut like this.
Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout);

}  // namespace colossus
