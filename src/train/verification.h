// Finding a machine that computes wrong numbers without failing: who computes whose leaves a second time, and who is
// wrong when two results differ. Pure functions; bits do not depend on who computes (docs/numerics.md).
//
// A *crew* is the fewest ranks that compute microbatches by themselves: a data rank, or where experts lie over data
// ranks as many of these as share a copy of them. All crews have ranks in the same places, and a rank is compared with
// those in its own place.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/leaf_shares.h"
#include "parallel/mesh.h"

namespace colossus {

struct Crews {
  int64_t count = 1;
  int64_t width = 1;        // ranks of a crew on each stage of the pipeline
  int64_t stage_ranks = 1;  // of all crews

  int64_t of(int64_t rank) const { return rank % stage_ranks / width; }
  int64_t counterpart(int64_t rank, int64_t crew) const { return rank + (crew - of(rank)) * width; }
};
Crews crews_of(const MeshConfig& mesh);

// Whose leaves `crew` computes besides its own in a check, and who computes its own. In count - 1 checks that follow
// each other everybody is compared with everybody. One alone computes its own twice.
int64_t checked_by(int64_t crew, int64_t check, int64_t count);
int64_t checker_of(int64_t crew, int64_t check, int64_t count);

// The leaves that a rank with `size` of them computes to check `theirs`: as many, and `turn`, counted from their first,
// among them.
LeafRange leaves_to_check(LeafRange theirs, int64_t turn, int64_t size, int64_t num_leaves);

// By rank: the first of its leaves, counted from its own first, on which it and its checker differ. -1: none.
struct Difference {
  int64_t turn = -1;
  uint64_t own = 0, checkers = 0;  // checksums of what came out
};

// A leaf on which two crews differ is computed once more, by `judges`: a third crew, or where there is none by both
// again, so that at least an error that does not come back is told from the truth.
struct Recheck {
  int64_t owner = 0, checker = 0;
  int64_t turn = 0;
  std::vector<int64_t> judges;
  bool operator==(const Recheck&) const = default;
};
// At most 16: where more differ it is not one machine.
std::vector<Recheck> rechecks_of(const std::vector<Difference>& by_rank, const Crews& crews, int64_t check);

struct CorruptionVerdict {
  std::vector<int64_t> wrong;      // ranks that were outvoted, in order
  std::vector<int64_t> undecided;  // ranks that differ, without a majority for either
};
// votes[rank][i]: what came out of rechecks[i] on this rank, if its crew was a judge.
CorruptionVerdict judge(const std::vector<Difference>& by_rank, const std::vector<Recheck>& rechecks,
                        const std::vector<std::vector<uint64_t>>& votes, const Crews& crews);

}  // namespace colossus
