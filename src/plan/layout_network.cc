#include "plan/layout_network.h"

#include <cmath>

namespace colossus {
namespace {

CollectiveKind kind_of(Exchange exchange) {
  switch (exchange) {
    case Exchange::kAllReduce: return CollectiveKind::kAllReduce;
    case Exchange::kAllGather: return CollectiveKind::kAllGather;
    case Exchange::kReduceScatter: return CollectiveKind::kReduceScatter;
    case Exchange::kAllToAll: return CollectiveKind::kAllToAll;
    case Exchange::kSend:
    case Exchange::kReceive: return CollectiveKind::kSend;
  }
  return CollectiveKind::kSend;
}

// The ranks of a group as strides; neighbours of the pipeline are two.
MeshGroup group_of(const Mesh& mesh, RankGroup group) {
  MeshGroup result;
  if (group.is_of_neighbours()) {
    result.axes.push_back({2, mesh.stride(MeshAxis::kPipeline)});
    return result;
  }
  const bool everyone = group == RankGroup();
  for (const MeshAxis axis : kMeshAxes) {
    const bool of_experts =
        axis == MeshAxis::kExpertData || axis == MeshAxis::kExpert || axis == MeshAxis::kExpertTensor;
    const bool wanted = everyone ? !of_experts : group.contains(axis);
    if (!wanted || mesh.size(axis) == 1) continue;
    // A tied embedding's group has of the pipeline the two ends alone.
    if (axis == MeshAxis::kPipeline && group.link == Link::kEnds)
      result.axes.push_back({2, (mesh.size(axis) - 1) * mesh.stride(axis)});
    else
      result.axes.push_back({mesh.size(axis), mesh.stride(axis)});
  }
  return result;
}

}  // namespace

LayoutNetwork::LayoutNetwork(const Network& network, const MeshConfig& mesh, int64_t num_experts_per_token,
                             const StackConfig& stack)
    : network_(network),
      mesh_(mesh),
      num_experts_per_token_(num_experts_per_token),
      deduplication_(stack.expert_deduplication),
      gathering_(stack.expert_tensor_gather) {}

const LayoutNetwork::Placed& LayoutNetwork::placed(RankGroup group) {
  const auto found = placed_.find(group);
  if (found != placed_.end()) return found->second;
  const GroupPlacement placement = place_group(network_.spec(), group_of(mesh_, group));
  return placed_.emplace(group, Placed{network_.place(placement), placement.domains}).first->second;
}

// Of the rows that go to other domains, the share that is left when each goes to each domain once: with k experts of a
// row spread over D domains, D (1 - (1 - 1 / D)^k) / k.
double LayoutNetwork::share_sent_once(const Placed& group) const {
  if (!deduplication_ || group.domains < 2 || num_experts_per_token_ < 2) return 1;
  const auto domains = static_cast<double>(group.domains), experts = static_cast<double>(num_experts_per_token_);
  return domains * (1 - std::pow(1 - 1 / domains, experts)) / experts;
}

// Rows to their experts, or back. bytes_sent: to all ranks of each expert.
double LayoutNetwork::seconds_of_rows(RankGroup group, double bytes_sent) {
  const auto slices = static_cast<double>(mesh_.size(MeshAxis::kExpertTensor));
  const auto exchange = [&](RankGroup along, double bytes) {
    const Placed& place = placed(along);
    return place.group.time_of(CollectiveKind::kAllToAll, bytes * share_sent_once(place)).seconds;
  };
  if (!gathering_ || slices == 1 || !group.contains(MeshAxis::kExpertTensor)) return exchange(group, bytes_sent);
  double seconds = placed(RankGroup::along({MeshAxis::kExpertTensor}))
                       .group.time_of(CollectiveKind::kAllGather, bytes_sent * (slices - 1) / slices)
                       .seconds;
  if (mesh_.size(MeshAxis::kExpert) > 1)
    seconds += exchange(RankGroup::along({MeshAxis::kExpert}), bytes_sent / slices);
  return seconds;
}

double LayoutNetwork::seconds(RankGroup group, Exchange exchange, double bytes_sent) {
  if (bytes_sent == 0) return 0;
  if (exchange == Exchange::kAllToAll) return seconds_of_rows(group, bytes_sent);
  const Placed& placed_group = placed(group);
  return placed_group.group.time_of(kind_of(exchange), bytes_sent).seconds;
}

}  // namespace colossus
