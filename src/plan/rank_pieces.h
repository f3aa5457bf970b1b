// The programs of a layout's ranks, small: layers are alike, so what a piece of n layers takes follows from the same
// piece with one layer and with two. They are written by what writes those of real runs (train/rank_model.h).
#pragma once

#include <array>
#include <functional>

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
  // In the run for a step's last microbatch, which exchanges gradients; 0: as ever. What a layer's exchange holds is
  // there once, however many layers there are.
  int64_t last_arena_bytes = 0;
};
struct PiecePrograms {
  PieceProgram forward;                // of kWhole both passes
  PieceProgram backward;               // none of kWhole
  PieceProgram backward_weight;        // none unless split
  int64_t evaluation_arena_bytes = 0;  // not of kWhole, whose backward pass needs more
  ByStashKind<int64_t> stash_bytes{};
};

// Elements of parameters on a rank, by who shares the update of them.
struct SharedParameters {
  int64_t cut = 0;      // along the tensor axis: ranks along shard and context
  int64_t copied = 0;   // to all tensor ranks: these, too
  int64_t experts = 0;  // whoever has the same experts
  int64_t tied = 0;     // embedding that is also the head, on both ends of a pipeline: all ranks of both ends
  int64_t all() const { return cut + copied + experts + tied; }
};

struct RankPieces {
  bool has_pipeline = false;
  std::array<std::array<PiecePrograms, 2>, kNumPieceKinds> pieces;  // [kind][layers - 1]
  // Between the microbatches and the next step: the whole model on one stage, with one layer and with two.
  std::array<PieceProgram, 2> update;
  // Our own stack: of the update of a stage's layers, which runs when the passes' activations are gone. It grows with
  // the layers until as many buckets are on their way as ever are.
  int64_t update_arena_bytes = 0;
  bool is_own = true;  // written as our own stack has it (StackConfig::is_own)
  // The model's ends and one layer. What is tied is in `first`, and on the last stage again.
  SharedParameters first, layer, last;

  const std::array<PiecePrograms, 2>& of(PieceKind kind) const { return pieces[static_cast<size_t>(kind)]; }
};

// Scratch that a device wants while an operation runs, in bytes.
using Workspace = std::function<int64_t(const Program&, const Operation&)>;
// Of sums among ranks in a fixed order (docs/numerics.md): what arrives is kept until it is added, on any device.
int64_t exchange_workspace(const Program& program, const Operation& operation);
// Of the CPU's kernels, on one thread.
int64_t processor_workspace(const Program& program, const Operation& operation);

// Fails where the model cannot be cut like this.
Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const StackConfig& stack = {},
                                     const Workspace& workspace = exchange_workspace);

}  // namespace colossus
