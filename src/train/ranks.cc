#include "train/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace colossus {
namespace {

int64_t place_in(const std::vector<int64_t>& ranks, int64_t rank) {
  return std::find(ranks.begin(), ranks.end(), rank) - ranks.begin();
}

GroupOptions options_of(const std::string& name, int64_t rank, size_t size, double timeout_seconds) {
  return {
      .name = name, .rank = static_cast<int>(rank), .size = static_cast<int>(size), .timeout_seconds = timeout_seconds};
}

std::vector<int64_t> all_ranks(const Mesh& mesh) {
  std::vector<int64_t> ranks;
  for (int64_t rank = 0; rank < mesh.size(); ++rank) ranks.push_back(rank);
  return ranks;
}

// Ranks along `data` have the same state.
bool wants_copies(const Mesh& mesh) { return mesh.config().data == 1 && mesh.config().shard > 1; }

std::string name_of(RankGroup group) { return group == kWorld ? "world" : group.name(); }

}  // namespace

std::vector<GroupMembers> groups_of(const Mesh& mesh, int64_t rank) {
  std::vector<GroupMembers> groups;
  if (mesh.size() == 1) return groups;
  const auto add = [&](RankGroup group, std::vector<int64_t> ranks) {
    if (ranks.size() > 1 && std::ranges::none_of(groups, [&](const auto& other) { return other.ranks == ranks; }))
      groups.push_back({group, std::move(ranks)});
  };
  const auto along = [&](std::initializer_list<MeshAxis> axes) {
    add(RankGroup::along(axes), mesh.group(rank, std::span(axes.begin(), axes.size())));
  };
  along({MeshAxis::kData, MeshAxis::kShard});
  along({MeshAxis::kData});
  along({MeshAxis::kShard});
  add(kWorld, all_ranks(mesh));
  return groups;
}

Result<std::unique_ptr<Ranks>> join_ranks(const Mesh& mesh, int64_t rank, KeyValueStore& store, const std::string& key,
                                          const JoinOptions& options) {
  auto ranks = std::make_unique<Ranks>();
  ranks->mesh = mesh;
  ranks->rank = rank;
  const auto join = [&](const std::string& name, const std::vector<int64_t>& members) {
    // Groups of one name differ by their first member.
    auto end = join_gloo_group(options_of(name, place_in(members, rank), members.size(), options.join_seconds), store,
                               fmt::format("{}/{}.{}", key, name, members.front()), options.interface);
    if (end.ok()) (*end)->set_timeout(options.timeout_seconds);
    return end;
  };
  for (const GroupMembers& group : groups_of(mesh, rank)) {
    std::string name = name_of(group.group);
    std::replace(name.begin(), name.end(), '+', '-');  // a key's letters
    ASSIGN_OR_RETURN(auto end, join(name, group.ranks));
    ranks->groups.set(group.group, std::move(end));
    if (group.group == kUpdateRanks && wants_copies(mesh)) {
      ASSIGN_OR_RETURN(ranks->copies, join("copies", group.ranks));
    }
  }
  if (mesh.size() > 1) {
    ASSIGN_OR_RETURN(ranks->checkpoints, join("checkpoints", all_ranks(mesh)));
  }
  return ranks;
}

std::vector<std::unique_ptr<Ranks>> make_thread_ranks(const Mesh& mesh, double timeout_seconds) {
  std::vector<std::unique_ptr<Ranks>> all;
  std::map<std::pair<std::string, int64_t>, std::vector<std::unique_ptr<Communicator>>> made;  // name, first member
  const auto join = [&](const std::string& name, const std::vector<int64_t>& members, int64_t rank) {
    auto& ends = made[{name, members.front()}];
    if (ends.empty()) ends = make_thread_group(options_of(name, 0, members.size(), timeout_seconds));
    return std::move(ends[static_cast<size_t>(place_in(members, rank))]);
  };
  for (int64_t rank = 0; rank < mesh.size(); ++rank) {
    auto ranks = std::make_unique<Ranks>();
    ranks->mesh = mesh;
    ranks->rank = rank;
    for (const GroupMembers& group : groups_of(mesh, rank)) {
      ranks->groups.set(group.group, join(name_of(group.group), group.ranks, rank));
      if (group.group == kUpdateRanks && wants_copies(mesh)) ranks->copies = join("copies", group.ranks, rank);
    }
    if (mesh.size() > 1) ranks->checkpoints = join("checkpoints", all_ranks(mesh), rank);
    all.push_back(std::move(ranks));
  }
  return all;
}

}  // namespace colossus
