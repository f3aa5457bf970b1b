#include "train/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "comm/tcp_network.h"

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

// With copies along `data` alone all state is on several ranks.
bool wants_copies(const Mesh& mesh) {
  return mesh.size() > 1 && !(mesh.config().data > 1 && mesh.size() == mesh.config().data * mesh.config().shard);
}

// All ranks of a run; where they are all of another group as well, they go by its name.
constexpr RankGroup kWorld = {};

std::string name_of(RankGroup group) {
  std::string name = group == kWorld ? "world" : group.name();
  std::replace(name.begin(), name.end(), '+', '-');  // a key's letters
  return name;
}

bool is_link(RankGroup group) { return group.link != Link::kNone && group.link != Link::kEnds; }

// Both ends of a link call it by the name of the one that sends.
std::string meeting_name(RankGroup group) {
  switch (group.link) {
    case Link::kFromPrevious: return name_of(RankGroup::to(Link::kToNext));
    case Link::kFromNext: return name_of(RankGroup::to(Link::kToPrevious));
    default: return name_of(group);
  }
}

class GroupList {
 public:
  GroupList(const Mesh& mesh, int64_t rank) : mesh_(mesh), rank_(rank) {}

  void add(RankGroup group, std::vector<int64_t> ranks) {
    if (ranks.size() > 1) groups_.push_back({group, std::move(ranks)});
  }
  void add_along(std::initializer_list<MeshAxis> axes) {
    for (const MeshAxis axis : axes)
      if (mesh_.size(axis) == 1) return;
    const RankGroup group = RankGroup::along(axes);
    add(group, ranks_along(mesh_, rank_, group));
  }
  void add_if_new(RankGroup group) {
    std::vector<int64_t> ranks = ranks_along(mesh_, rank_, group);
    const auto same = [&](const GroupMembers& other) { return !is_link(other.group) && other.ranks == ranks; };
    if (std::ranges::none_of(groups_, same)) add(group, std::move(ranks));
  }

  void add_lane(Link link, std::initializer_list<MeshAxis> axes) {
    RankGroup group = RankGroup::along(axes);
    group.link = link;
    std::vector<int64_t> ranks = ranks_along(mesh_, rank_, group);
    const auto same = [&](const GroupMembers& other) { return other.group.link == link && other.ranks == ranks; };
    if (std::ranges::none_of(groups_, same)) add(group, std::move(ranks));
  }

  // A ring.
  void add_links() {
    const int64_t stages = mesh_.size(MeshAxis::kPipeline), own = mesh_.coordinate(rank_, MeshAxis::kPipeline);
    if (stages == 1) return;
    const std::vector<int64_t> ring = mesh_.group(rank_, MeshAxis::kPipeline);
    for (int64_t stage = 0; stage < stages; ++stage) {
      const int64_t next = (stage + 1) % stages, here = ring[static_cast<size_t>(stage)],
                    there = ring[static_cast<size_t>(next)];
      if (own == stage) add(RankGroup::to(Link::kToNext), {here, there});
      if (own == next) add(RankGroup::to(Link::kFromPrevious), {here, there});
      if (own == next) add(RankGroup::to(Link::kToPrevious), {there, here});
      if (own == stage) add(RankGroup::to(Link::kFromNext), {there, here});
    }
  }
  std::vector<GroupMembers> take() { return std::move(groups_); }

 private:
  const Mesh& mesh_;
  const int64_t rank_;
  std::vector<GroupMembers> groups_;
};

}  // namespace

std::vector<int64_t> ranks_along(const Mesh& mesh, int64_t rank, RankGroup axes) {
  if (axes == kWorld) return all_ranks(mesh);
  std::vector<MeshAxis> along;
  for (const MeshAxis axis : kMeshAxes)
    if (axes.contains(axis) && axis != MeshAxis::kPipeline) along.push_back(axis);
  if (axes.link != Link::kEnds) {
    if (axes.contains(MeshAxis::kPipeline)) along.push_back(MeshAxis::kPipeline);
    return mesh.group(rank, along);
  }
  const int64_t stages = mesh.size(MeshAxis::kPipeline), of_stage = mesh.size() / stages, place = rank % of_stage;
  std::vector<int64_t> ranks = mesh.group(place, along);
  for (const int64_t last : mesh.group(place + (stages - 1) * of_stage, along)) ranks.push_back(last);
  return ranks;
}

std::vector<GroupMembers> groups_of(const Mesh& mesh, int64_t rank) {
  using enum MeshAxis;
  GroupList groups(mesh, rank);
  if (mesh.size() == 1) return groups.take();
  groups.add_along({kTensor});
  groups.add_along({kContext});
  groups.add_along({kContext, kTensor});
  groups.add_along({kExpert});
  groups.add_along({kExpertTensor});
  groups.add_along({kExpert, kExpertTensor});
  groups.add_links();
  const int64_t stage = mesh.coordinate(rank, kPipeline), stages = mesh.size(kPipeline);
  for (const RankGroup group :
       {RankGroup::along({kData, kShard, kContext, kTensor}), RankGroup::along({kData, kShard, kContext}),
        RankGroup::along({kData}), RankGroup::along({kShard, kContext, kTensor}), RankGroup::along({kShard, kContext}),
        RankGroup::along({kExpertData})})
    groups.add_if_new(group);
  const bool is_end = stages > 1 && (stage == 0 || stage == stages - 1);
  if (is_end) groups.add_if_new(kEndRanks);
  groups.add_lane(Link::kGradients, {kData, kShard, kContext, kTensor});
  groups.add_lane(Link::kGradients, {kData, kShard, kContext});
  groups.add_lane(Link::kGradients, {kExpertData});
  if (mesh.config().zero_stage == 1) groups.add_lane(Link::kGradients, {kData});
  if (mesh.config().zero_stage >= 2 && is_end) groups.add_if_new(kEndPair);
  if (mesh.config().zero_stage == 3) {
    groups.add_lane(Link::kParameters, {kShard, kContext, kTensor});
    groups.add_lane(Link::kParameters, {kShard, kContext});
    groups.add_lane(Link::kParameters, {kExpertData});
    if (is_end) groups.add_lane(Link::kParameters, {kData, kShard, kContext, kTensor});
  }
  groups.add_if_new(kWorld);
  return groups.take();
}

Peers Ranks::peers(const std::vector<int64_t>& wanted, Link lane) const {
  const int64_t place = place_in(wanted, rank);
  CHECK(place < static_cast<int64_t>(wanted.size()), "a rank's peers are it and others");
  if (wanted.size() == 1) return {};
  for (const GroupMembers& group : members)
    if ((lane == Link::kNone ? !is_link(group.group) : group.group.link == lane) && group.ranks == wanted)
      return {group.group, static_cast<int64_t>(wanted.size()), place};
  CHECK(false, "no group of the layout has these ranks");
  return {};
}

Peers Ranks::all() const { return peers(all_ranks(mesh)); }

Result<std::unique_ptr<Ranks>> join_ranks(const Mesh& mesh, int64_t rank, KeyValueStore& store, const std::string& key,
                                          const JoinOptions& options) {
  auto ranks = std::make_unique<Ranks>();
  ranks->mesh = mesh;
  ranks->rank = rank;
  ranks->members = groups_of(mesh, rank);
  if (mesh.size() == 1) return ranks;
  ASSIGN_OR_RETURN(const auto network, TcpNetwork::join({.rank = static_cast<int>(rank),
                                                         .size = static_cast<int>(mesh.size()),
                                                         .timeout_seconds = options.join_seconds,
                                                         .interface = options.interface},
                                                        store, key));
  const auto join = [&](const std::string& name, const std::vector<int64_t>& members) {
    return network->group(name, {members.begin(), members.end()}, options.timeout_seconds);
  };
  for (const GroupMembers& group : ranks->members)
    ranks->groups.set(group.group, join(meeting_name(group.group), group.ranks));
  ranks->checkpoints = join("checkpoints", all_ranks(mesh));
  if (wants_copies(mesh)) ranks->copies = join("copies", all_ranks(mesh));
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
    ranks->members = groups_of(mesh, rank);
    for (const GroupMembers& group : ranks->members)
      ranks->groups.set(group.group, join(meeting_name(group.group), group.ranks, rank));
    if (mesh.size() > 1) ranks->checkpoints = join("checkpoints", all_ranks(mesh), rank);
    if (wants_copies(mesh)) ranks->copies = join("copies", all_ranks(mesh), rank);
    all.push_back(std::move(ranks));
  }
  return all;
}

}  // namespace colossus
