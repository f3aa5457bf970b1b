// Who computes how many leaves of a step when ranks are not equally fast: a pure function of what was measured. The
// shares change no bit (parallel/leaf_shares.h).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/leaf_shares.h"

namespace colossus {

struct LeafBalance {
  // Other shares, where these end a step at least a tenth earlier.
  std::optional<std::vector<LeafRange>> leaves;
  std::vector<size_t> slow;  // data ranks that are more than a tenth slower than the others
  std::string note;          // who that is, and what is done about it; "": nobody
};

// seconds[i]: what data rank i took for a microbatch, in the mean over some steps, without waiting for others; above 0.
LeafBalance balance_leaves(int64_t num_leaves, std::span<const LeafRange> now, std::span<const double> seconds);

}  // namespace colossus
