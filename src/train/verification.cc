#include "train/verification.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/check.h"

namespace colossus {

Crews crews_of(const MeshConfig& mesh) {
  const int64_t width = std::lcm(mesh.context * mesh.tensor, mesh.expert * mesh.expert_tensor);
  return {.count = mesh.stage_ranks() / width, .width = width, .stage_ranks = mesh.stage_ranks()};
}

namespace {

// How far round from a crew the one is that it checks.
int64_t distance_of(int64_t check, int64_t count) { return count == 1 ? 0 : 1 + check % (count - 1); }

}  // namespace

int64_t checked_by(int64_t crew, int64_t check, int64_t count) { return (crew + distance_of(check, count)) % count; }

int64_t checker_of(int64_t crew, int64_t check, int64_t count) {
  return (crew + count - distance_of(check, count)) % count;
}

LeafRange leaves_to_check(LeafRange theirs, int64_t turn, int64_t size, int64_t num_leaves) {
  const int64_t first = theirs.begin + std::max<int64_t>(0, turn - size + 1);
  const int64_t begin = std::min(first, num_leaves - size);
  return {begin, begin + size};
}

std::vector<Recheck> rechecks_of(const std::vector<Difference>& by_rank, const Crews& crews, int64_t check) {
  constexpr size_t kMost = 16;
  std::set<std::pair<int64_t, int64_t>> disputed;  // owner and turn
  std::set<int64_t> involved;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    if (by_rank[rank].turn < 0) continue;
    const int64_t owner = crews.of(static_cast<int64_t>(rank));
    disputed.emplace(owner, by_rank[rank].turn);
    involved.insert({owner, checker_of(owner, check, crews.count)});
  }
  std::vector<Recheck> rechecks;
  for (const auto& [owner, turn] : disputed) {
    if (rechecks.size() == kMost) break;
    Recheck recheck{.owner = owner, .checker = checker_of(owner, check, crews.count), .turn = turn, .judges = {}};
    // Best is one whose word nobody doubts.
    for (const bool anybody : {false, true})
      for (int64_t i = 1; i < crews.count && recheck.judges.empty(); ++i) {
        const int64_t crew = (owner + i) % crews.count;
        if (crew != recheck.checker && (anybody || !involved.contains(crew))) recheck.judges = {crew};
      }
    if (recheck.judges.empty()) recheck.judges = {recheck.owner};
    if (crews.count == 2) recheck.judges.push_back(recheck.checker);
    rechecks.push_back(std::move(recheck));
  }
  return rechecks;
}

CorruptionVerdict judge(const std::vector<Difference>& by_rank, const std::vector<Recheck>& rechecks,
                        const std::vector<std::vector<uint64_t>>& votes, const Crews& crews) {
  struct Vote {
    int64_t rank;
    uint64_t checksum;
  };
  std::set<int64_t> wrong, undecided;
  for (size_t i = 0; i < rechecks.size(); ++i)
    for (size_t at = 0; at < by_rank.size(); ++at) {
      const auto rank = static_cast<int64_t>(at);
      const Recheck& recheck = rechecks[i];
      if (crews.of(rank) != recheck.owner || by_rank[at].turn != recheck.turn) continue;
      std::vector<Vote> all = {{rank, by_rank[at].own},
                               {crews.counterpart(rank, recheck.checker), by_rank[at].checkers}};
      for (const int64_t crew : recheck.judges) {
        const int64_t judge = crews.counterpart(rank, crew);
        CHECK(votes[static_cast<size_t>(judge)].size() == rechecks.size());
        all.push_back({judge, votes[static_cast<size_t>(judge)][i]});
      }
      const auto count = [&](const Vote& vote) { return std::ranges::count(all, vote.checksum, &Vote::checksum) * 2; };
      const auto most = std::ranges::max_element(all, {}, count);
      const bool decided = count(*most) > static_cast<std::ptrdiff_t>(all.size());
      for (const Vote& vote : all)
        if (!decided)
          undecided.insert(vote.rank);
        else if (vote.checksum != most->checksum)
          wrong.insert(vote.rank);
    }
  return {.wrong = {wrong.begin(), wrong.end()}, .undecided = {undecided.begin(), undecided.end()}};
}

}  // namespace colossus
