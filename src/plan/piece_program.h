// A program as the planner has it: what it does, and what memory it takes.
#pragma once

#include <functional>

#include "device/sim/play.h"

namespace colossus {

struct PieceProgram {
  PlayableProgram works;
  int64_t arena_bytes = 0;
  // In the run for a step's last microbatch, which exchanges gradients; 0: as ever. What a layer's exchange holds is
  // there once, however many layers there are.
  int64_t last_arena_bytes = 0;

  void add_work(const KernelWork& work);  // that waits for nothing
};

// Scratch that a device wants while an operation runs, in bytes.
using Workspace = std::function<int64_t(const Program&, const Operation&)>;
// Of sums among ranks in a fixed order (docs/numerics.md): what arrives is kept until it is added, on any device.
int64_t exchange_workspace(const Program& program, const Operation& operation);
// Of the CPU's kernels, on one thread.
int64_t processor_workspace(const Program& program, const Operation& operation);

int64_t arena_bytes(const Program& program, const Workspace& workspace);
PieceProgram piece_program(const Program& program, const Workspace& workspace);

}  // namespace colossus
