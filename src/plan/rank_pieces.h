// The programs of a layout's ranks, small: layers are alike, so what a piece of n layers takes follows from the same
// piece with a few layers and with one more. They are written by what writes those of real runs (train/rank_model.h).
#pragma once

#include <array>
#include <memory>

#include "parallel/stage_slots.h"
#include "plan/rank_update.h"

namespace colossus {

// A number that grows by the layer.
struct PerLayer {
  double few = 0, more = 0;  // of so few layers, and of one more
  double fewest_layers = 1;
  double at(double layers) const { return few + (more - few) * (layers - fewest_layers); }
};

// Which of the model's ends a piece has.
enum class PieceKind : uint8_t { kFirst, kMiddle, kLast, kWhole };
inline constexpr size_t kNumPieceKinds = 4;

struct PiecePrograms {
  PieceProgram forward;                // of kWhole both passes
  PieceProgram backward;               // none of kWhole
  PieceProgram backward_weight;        // none unless split
  int64_t evaluation_arena_bytes = 0;  // not of kWhole, whose backward pass needs more
  ByStashKind<int64_t> stash_bytes{};
};

struct RankPieces {
  bool has_pipeline = false;
  // With ZeRO 2 and 3 buckets of up to three layers are whole at once, and what is read of the ends lies in one with a
  // layer's: there pieces grow evenly from three layers on.
  int64_t fewest_layers = 1;
  std::array<std::array<PiecePrograms, 2>, kNumPieceKinds> pieces;  // [kind][layers - fewest_layers]
  bool is_own = true;  // written as our own stack has it (StackConfig::is_own)
  std::shared_ptr<const RankUpdate> update;

  const std::array<PiecePrograms, 2>& of(PieceKind kind) const { return pieces[static_cast<size_t>(kind)]; }
};

// Fails where the model cannot be cut like this.
Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack = {},
                                     const Workspace& workspace = exchange_workspace);
// The same, of a layout whose update is known.
Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     std::shared_ptr<const RankUpdate> update,
                                     const Workspace& workspace = exchange_workspace);

}  // namespace colossus
