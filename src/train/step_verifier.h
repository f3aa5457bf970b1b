// One step in which every leaf is computed by two crews and compared before anything is updated
// (train/verification.h).
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "train/microbatches.h"
#include "train/verification.h"

namespace colossus {

class StepVerifier {
 public:
  // Of step `step` (from 0), on all ranks. What it is given outlives it.
  StepVerifier(const RunConfig& run, const Ranks& ranks, Microbatches& microbatches, const Loader& data, int64_t step);

  // Before the rank's own leaves: computes those that it checks. As Microbatches::run.
  Result<bool> compute_others(const std::atomic<bool>& stop);
  // Where the rank's own go.
  LeafChecksums* own() { return &own_; }
  // After them, and before the update. On all ranks ok, or the same error: kUnavailable names the ranks that are wrong,
  // kInvalid says that none can be named. Gradients are then lost.
  Status compare();
  // Those it named.
  const std::vector<int64_t>& wrong_ranks() const { return wrong_; }

 private:
  LeafRange leaves_of(int64_t rank) const;
  Result<Difference> difference();
  Result<std::vector<std::vector<uint64_t>>> vote(const std::vector<Recheck>& rechecks);
  Status say(const CorruptionVerdict& verdict, const std::vector<Recheck>& rechecks);

  const RunConfig& run_;
  const Ranks& ranks_;
  Microbatches& microbatches_;
  const Loader& data_;
  const int64_t step_, check_;
  const Crews crews_;
  const std::vector<LeafRange> shares_;  // by data rank
  LeafChecksums own_, others_;
  std::vector<int64_t> wrong_;
};

}  // namespace colossus
