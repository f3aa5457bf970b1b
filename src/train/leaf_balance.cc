#include "train/leaf_balance.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"

namespace colossus {
namespace {

constexpr double kSlower = 1.1;

double step_time(std::span<const LeafRange> leaves, std::span<const LeafPace> paces) {
  double longest = 0;
  for (size_t i = 0; i < leaves.size(); ++i) longest = std::max(longest, paces[i].time_of(leaves[i].size()));
  return longest;
}

// Each is compared with the others: of two ranks it is the other one. Numbered from `first` on.
void add_slow(std::span<const double> seconds, int64_t first, std::vector<Straggler>& slow) {
  if (seconds.size() < 2) return;
  std::vector<double> sorted(seconds.begin(), seconds.end());
  std::ranges::sort(sorted);
  const size_t middle = (seconds.size() - 2) / 2;  // of the others
  for (size_t i = 0; i < seconds.size(); ++i) {
    const auto place = static_cast<size_t>(std::ranges::lower_bound(sorted, seconds[i]) - sorted.begin());
    const double median = sorted[middle < place ? middle : middle + 1];
    if (seconds[i] > kSlower * median) slow.push_back({first + static_cast<int64_t>(i), seconds[i] / median});
  }
}

int64_t data_rank_of(const Mesh& mesh, int64_t rank) {
  return mesh.coordinate(rank, MeshAxis::kData) * mesh.config().shard + mesh.coordinate(rank, MeshAxis::kShard);
}

PieceTimes piece_times(const RankSeconds& rank, int64_t num_chunks) {
  const auto of = [&](PipelineWork work) {
    return rank.of_work[static_cast<size_t>(work)] / static_cast<double>(num_chunks);
  };
  return {.forward = of(PipelineWork::kForward),
          .backward_input = of(PipelineWork::kBackward) + of(PipelineWork::kBackwardInput),
          .backward_weight = of(PipelineWork::kBackwardWeight)};
}

// stages: the slowest times on each.
LeafPace pace_of_pipeline(const MeshConfig& mesh, std::span<const RankSeconds> stages, int64_t num_leaves,
                          int64_t microbatches_per_leaf) {
  const PipelineShape shape = {.kind = mesh.schedule,
                               .num_stages = static_cast<int>(mesh.pipeline),
                               .num_chunks = static_cast<int>(mesh.chunks),
                               .num_microbatches = num_leaves * microbatches_per_leaf};
  PipelineTimes times;
  times.pieces.clear();
  double slowest = 0;
  for (int64_t piece = 0; piece < mesh.pipeline * mesh.chunks; ++piece)
    times.pieces.push_back(piece_times(stages[static_cast<size_t>(piece % mesh.pipeline)], mesh.chunks));
  for (const RankSeconds& stage : stages) slowest = std::max(slowest, stage.all_work());
  const auto steps = write_pipeline_schedule(shape);
  CHECK(steps.ok(), "the schedule that runs");
  const auto figures = play_pipeline_schedule(shape, *steps, times);
  CHECK(figures.ok(), "the schedule that runs");
  const double busy = slowest * static_cast<double>(shape.num_microbatches);
  return {.per_leaf = slowest * static_cast<double>(microbatches_per_leaf),
          .fixed = std::max(0.0, figures->makespan - busy)};
}

// "rank 3 (stage 1, on node-7)"
std::string name_of(const Mesh& mesh, int64_t rank, std::span<const std::string> machines) {
  std::vector<std::string> where;
  if (mesh.config().pipeline > 1) where.push_back(fmt::format("stage {}", mesh.coordinate(rank, MeshAxis::kPipeline)));
  const std::string& machine = machines[static_cast<size_t>(rank)];
  if (!machine.empty()) where.push_back("on " + machine);
  return fmt::format("rank {}{}", rank, where.empty() ? "" : fmt::format(" ({})", fmt::join(where, ", ")));
}

}  // namespace

std::vector<Straggler> find_stragglers(const Mesh& mesh, std::span<const RankSeconds> ranks) {
  std::vector<double> seconds;
  for (const RankSeconds& rank : ranks) seconds.push_back(rank.own);
  const auto of_stage = static_cast<size_t>(mesh.config().stage_ranks());
  std::vector<Straggler> slow;
  for (size_t first = 0; first < seconds.size(); first += of_stage)
    add_slow(std::span(seconds).subspan(first, of_stage), static_cast<int64_t>(first), slow);
  std::vector<double> longest(static_cast<size_t>(mesh.config().data * mesh.config().shard));  // by data rank
  const auto longest_beside = [&](int64_t rank) -> double& {
    return longest[static_cast<size_t>(data_rank_of(mesh, rank))];
  };
  for (int64_t rank = 0; rank < mesh.size(); ++rank)
    longest_beside(rank) = std::max(longest_beside(rank), seconds[static_cast<size_t>(rank)]);
  std::erase_if(slow, [&](const Straggler& each) {
    return seconds[static_cast<size_t>(each.rank)] * kSlower < longest_beside(each.rank);
  });
  return slow;
}

std::string reason_for_equal_shares(const MeshConfig& mesh) {
  if (mesh.experts_over_data_ranks()) return "their experts see the tokens of all data ranks at once";
  if (mesh.zero_stage > 1) return fmt::format("with zero_stage = {} they add up each leaf together", mesh.zero_stage);
  return "";
}

std::vector<LeafPace> paces_of_data_ranks(const Mesh& mesh, std::span<const RankSeconds> ranks,
                                          std::span<const LeafRange> now, int64_t microbatches_per_leaf) {
  const MeshConfig& config = mesh.config();
  const auto num_stages = static_cast<size_t>(config.pipeline);
  std::vector<RankSeconds> slowest(now.size() * num_stages);  // by data rank and stage
  for (int64_t rank = 0; rank < mesh.size(); ++rank) {
    const RankSeconds& seconds = ranks[static_cast<size_t>(rank)];
    const auto place = static_cast<size_t>(data_rank_of(mesh, rank)) * num_stages +
                       static_cast<size_t>(mesh.coordinate(rank, MeshAxis::kPipeline));
    for (size_t work = 0; work < kNumPipelineWorks; ++work)
      slowest[place].of_work[work] = std::max(slowest[place].of_work[work], seconds.of_work[work]);
  }
  std::vector<LeafPace> paces;
  for (size_t i = 0; i < now.size(); ++i) {
    const auto stages = std::span(slowest).subspan(i * num_stages, num_stages);
    if (num_stages > 1)
      paces.push_back(pace_of_pipeline(config, stages, now[i].size(), microbatches_per_leaf));
    else
      paces.push_back({.per_leaf = stages.front().all_work() * static_cast<double>(microbatches_per_leaf)});
  }
  return paces;
}

LeafBalance balance_leaves(int64_t num_leaves, std::span<const LeafRange> now, std::span<const LeafPace> paces) {
  CHECK(now.size() == paces.size());
  LeafBalance balance;
  if (now.size() < 2) return balance;
  std::vector<LeafRange> shares = share_leaves(num_leaves, paces);
  if (step_time(shares, paces) * kSlower < step_time(now, paces)) balance.leaves = std::move(shares);
  std::vector<double> per_leaf;
  for (const LeafPace& pace : paces) per_leaf.push_back(pace.per_leaf);
  add_slow(per_leaf, 0, balance.slow);
  return balance;
}

std::string balance_note(const Mesh& mesh, std::span<const LeafRange> now, const LeafBalance& balance,
                         std::span<const Straggler> slow, std::span<const std::string> machines) {
  constexpr const char* kTakes = "takes {:.2f} times as long for a microbatch as the others";
  std::vector<std::string> notes;
  for (const Straggler& data_rank : balance.slow) {
    std::vector<std::string> because;
    for (const Straggler& each : slow)
      if (data_rank_of(mesh, each.rank) == data_rank.rank) because.push_back(name_of(mesh, each.rank, machines));
    if (mesh.size() == static_cast<int64_t>(now.size()) && machines[static_cast<size_t>(data_rank.rank)].empty())
      because.clear();  // it is that rank
    const auto at = static_cast<size_t>(data_rank.rank);
    const LeafRange& leaves = balance.leaves ? (*balance.leaves)[at] : now[at];
    notes.push_back(fmt::format("data rank {} {}{}: it {} {} of {} leaves", data_rank.rank,
                                fmt::format(kTakes, data_rank.ratio),
                                because.empty() ? "" : fmt::format(", because of {}", fmt::join(because, " and ")),
                                leaves == now[at] ? "keeps" : "gets", leaves.size(), now.back().end));
  }
  bool shares_stay = false;
  const std::string reason = reason_for_equal_shares(mesh.config());
  for (const Straggler& each : slow) {
    if (std::ranges::count(balance.slow, data_rank_of(mesh, each.rank), &Straggler::rank) > 0) continue;
    notes.push_back(fmt::format("{} {}{}{}", name_of(mesh, each.rank, machines), fmt::format(kTakes, each.ratio),
                                mesh.config().pipeline > 1 ? " of its stage" : "",
                                mesh.config().expert > 1 ? " (or its experts get more tokens)" : ""));
    shares_stay = !reason.empty();
  }
  if (shares_stay) notes.push_back("data ranks keep equal shares of the leaves, for " + reason);
  if (balance.leaves && notes.empty()) notes.push_back("data ranks are equally fast again, and share the leaves anew");
  return fmt::format("{}", fmt::join(notes, "; "));
}

}  // namespace colossus
