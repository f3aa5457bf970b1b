// Where every activation of a program lies in one arena: lifetimes to offsets, no allocation in the step.
#pragma once

#include <string>
#include <vector>

#include "base/function_ref.h"
#include "program/program.h"

namespace colossus {

struct MemoryPlan {
  int64_t arena_bytes = 0;
  std::vector<int64_t> tensor_offset;     // by tensor index; -1 for tensors outside the arena
  std::vector<int64_t> workspace_offset;  // by operation index; -1 for none
  int64_t live_peak_bytes = 0;            // the most that is alive at once: no plan can need less
  int peak_operation = -1;                // where that is

  // Bytes outside the arena by role, from the program.
  int64_t parameter_bytes = 0, gradient_bytes = 0, optimizer_bytes = 0, state_bytes = 0, input_bytes = 0,
          stash_bytes = 0;
};

// workspace_bytes(operation index): scratch the device wants while that operation runs.
// Offsets are multiples of 64; largest first, each at the lowest place free for its lifetime
// (greedy by size: Pisarchyk and Lee 2020).
MemoryPlan plan_memory(const Program& program, FunctionRef<int64_t(int)> workspace_bytes);
MemoryPlan plan_memory(const Program& program);

// The peak by scope and role, and what is alive there.
std::string to_string(const MemoryPlan& plan, const Program& program);

}  // namespace colossus
