// What ranks of a layout do between a step's microbatches and the next step: the exchange of gradients and the update.
// Whatever the microbatch, the recomputation and the schedule are, it is the same.
#pragma once

#include <array>

#include "plan/layout.h"
#include "plan/piece_program.h"

namespace colossus {

// Elements of parameters on a rank, by who shares the update of them.
struct SharedParameters {
  int64_t cut = 0;      // along the tensor axis: ranks along shard and context
  int64_t copied = 0;   // to all tensor ranks: these, too
  int64_t experts = 0;  // whoever has the same experts
  int64_t tied = 0;     // embedding that is also the head, on both ends of a pipeline: all ranks of both ends
  int64_t all() const { return cut + copied + experts + tied; }
};

struct RankUpdate {
  std::array<PieceProgram, 2> programs;  // the whole model on one stage, with one layer and with two
  // Our own stack: of the update of a stage's layers, which runs when the passes' activations are gone. It grows with
  // the layers until as many buckets are on their way as ever are.
  int64_t arena_bytes = 0;
  // The model's ends and one layer. What is tied is in `first`, and on the last stage again.
  SharedParameters first, layer, last;
};

// Fails where the model cannot be cut like this.
Result<RankUpdate> write_rank_update(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                     const Workspace& workspace = exchange_workspace);

}  // namespace colossus
