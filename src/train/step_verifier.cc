#include "train/step_verifier.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "comm/agreement.h"

namespace colossus {

StepVerifier::StepVerifier(const RunConfig& run, const Ranks& ranks, Microbatches& microbatches, const Loader& data,
                           int64_t step)
    : run_(run),
      ranks_(ranks),
      microbatches_(microbatches),
      data_(data),
      step_(step),
      check_(step / run.train.verify_every),
      crews_(crews_of(ranks.mesh.config())),
      shares_(leaves_of_data_ranks(run.train.reduction_leaves, ranks)) {}

LeafRange StepVerifier::leaves_of(int64_t rank) const { return shares_[static_cast<size_t>(ranks_.data_rank(rank))]; }

Result<bool> StepVerifier::compute_others(const std::atomic<bool>& stop) {
  const int64_t rank = ranks_.rank, whose = checked_by(crews_.of(rank), check_, crews_.count);
  const LeafRange leaves = leaves_to_check(leaves_of(crews_.counterpart(rank, whose)), 0, leaves_of(rank).size(),
                                           run_.train.reduction_leaves);
  return microbatches_.run_again(step_, data_, stop, leaves.begin, others_);
}

// Of this rank's leaves.
Result<Difference> StepVerifier::difference() {
  const int64_t rank = ranks_.rank, crew = crews_.of(rank);
  const int64_t checked = crews_.counterpart(rank, checked_by(crew, check_, crews_.count));
  const int64_t checker = crews_.counterpart(rank, checker_of(crew, check_, crews_.count));
  const LeafRange own = leaves_of(rank);
  const LeafRange theirs = leaves_to_check(own, 0, leaves_of(checker).size(), run_.train.reduction_leaves);
  LeafChecksums found = others_;
  if (checker != rank) {
    found.resize(static_cast<size_t>(theirs.size()));
    RETURN_IF_ERROR(ranks_.world()->send_receive(std::as_bytes(std::span(others_)), static_cast<int>(checked),
                                                 std::as_writable_bytes(std::span(found)), static_cast<int>(checker)));
  }
  for (int64_t leaf = std::max(own.begin, theirs.begin); leaf < std::min(own.end, theirs.end); ++leaf) {
    const uint64_t ours = own_[static_cast<size_t>(leaf - own.begin)];
    const uint64_t checkers = found[static_cast<size_t>(leaf - theirs.begin)];
    if (ours != checkers) return Difference{.turn = leaf - own.begin, .own = ours, .checkers = checkers};
  }
  return Difference{};
}

// By rank, for each recheck.
Result<std::vector<std::vector<uint64_t>>> StepVerifier::vote(const std::vector<Recheck>& rechecks) {
  const int64_t rank = ranks_.rank;
  const std::atomic<bool> stop = false;
  std::vector<uint64_t> mine(rechecks.size());
  for (size_t i = 0; i < rechecks.size(); ++i) {
    const auto& [owner, checker, turn, judges] = rechecks[i];
    if (std::ranges::count(judges, crews_.of(rank)) == 0) continue;
    const LeafRange theirs = leaves_of(crews_.counterpart(rank, owner));
    const int64_t first = leaves_to_check(theirs, turn, leaves_of(rank).size(), run_.train.reduction_leaves).begin;
    LeafChecksums found;
    RETURN_IF_ERROR(microbatches_.run_again(step_, data_, stop, first, found));
    mine[i] = found[static_cast<size_t>(theirs.begin + turn - first)];
  }
  const auto num_ranks = static_cast<size_t>(ranks_.size());
  std::vector<uint64_t> all(num_ranks * mine.size());
  if (num_ranks == 1)
    all = mine;
  else
    RETURN_IF_ERROR(ranks_.world()->all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all))));
  std::vector<std::vector<uint64_t>> votes;
  for (size_t at = 0; at < all.size(); at += mine.size())
    votes.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(at),
                       all.begin() + static_cast<std::ptrdiff_t>(at + mine.size()));
  return votes;
}

Status StepVerifier::say(const CorruptionVerdict& verdict, const std::vector<Recheck>& rechecks) {
  wrong_ = verdict.wrong;
  std::string text = fmt::format("[step {}] computed twice, a leaf of the gradients had different bits: ", step_ + 1);
  const auto names = [](const std::vector<int64_t>& ranks) {
    return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
  };
  if (!wrong_.empty())
    return unavailable(text + fmt::format("{} computed wrong numbers, as {} found; nothing was updated with them",
                                          names(wrong_), crews_.count > 2 ? "a third rank" : "a third computation"));
  constexpr size_t kMany = 16;
  if (rechecks.size() >= kMany)
    text += fmt::format("on {} and others, too many for one machine that errs", names(verdict.undecided));
  else
    text += fmt::format("{} contradict each other{}", names(verdict.undecided),
                        crews_.count > 2 ? "" : ", each as before when asked again, and there is no third to judge");
  return invalid(text +
                 "; nothing was updated. Run `colossus check` on their machines, use processors with the same "
                 "instruction set (or COLOSSUS_ISA), and go on from the newest checkpoint");
}

Status StepVerifier::compare() {
  ASSIGN_OR_RETURN(const Difference mine, difference());
  std::vector<Difference> by_rank = {mine};
  if (ranks_.size() > 1) {
    ASSIGN_OR_RETURN(by_rank, share_values(*ranks_.world(), mine));
  }
  const auto rechecks = rechecks_of(by_rank, crews_, check_);
  if (rechecks.empty()) return ok_status();
  ASSIGN_OR_RETURN(const auto votes, vote(rechecks));
  return say(judge(by_rank, rechecks, votes, crews_), rechecks);
}

}  // namespace colossus
