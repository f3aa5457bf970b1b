#include "device/sim/group_placement.h"

#include <algorithm>

#include "base/check.h"

namespace colossus {
namespace {

// How many blocks of `size` GPUs have members; gpus rise.
int64_t count_blocks(std::span<const int64_t> gpus, int64_t size) {
  int64_t blocks = 0;
  int64_t end = 0;  // of the block of the last one
  for (const int64_t gpu : gpus) {
    if (blocks > 0 && gpu < end) continue;
    end = (gpu / size + 1) * size;
    ++blocks;
  }
  return blocks;
}

GroupPlacement place_rising(const NetworkSpec& spec, std::span<const int64_t> gpus, Siblings siblings) {
  GroupPlacement placement;
  placement.members = static_cast<int64_t>(gpus.size());
  placement.domains = 0;
  placement.most_in_domain = 0;
  placement.least_in_domain = placement.members;
  int64_t begin = 0;
  for (int64_t i = 1; i <= placement.members; ++i) {
    const auto domain = [&](int64_t member) { return gpus[static_cast<size_t>(member)] / spec.domain_gpus; };
    if (i < placement.members && domain(i) == domain(begin)) continue;
    ++placement.domains;
    placement.most_in_domain = std::max(placement.most_in_domain, i - begin);
    placement.least_in_domain = std::min(placement.least_in_domain, i - begin);
    begin = i;
  }
  placement.siblings = siblings;
  for (const NetworkTier& tier : spec.tiers) {
    placement.tier_groups.push_back(
        !placement.tier_groups.empty() && placement.tier_groups.back() == 1 ? 1 : count_blocks(gpus, tier.gpus));
  }
  return placement;
}

}  // namespace

int64_t MeshGroup::members() const {
  int64_t members = 1;
  for (const Axis& axis : axes) members *= axis.size;
  return members;
}

std::vector<int64_t> MeshGroup::gpus() const {
  std::vector<Axis> sorted = axes;
  std::sort(sorted.begin(), sorted.end(), [](const Axis& a, const Axis& b) { return a.stride > b.stride; });
  std::vector<int64_t> gpus = {first};
  gpus.reserve(static_cast<size_t>(members()));
  // From the outermost axis inwards, from the back, in place: each element becomes a run.
  for (const Axis& axis : sorted) {
    const size_t before = gpus.size();
    gpus.resize(before * static_cast<size_t>(axis.size));
    for (size_t i = before; i-- > 0;) {
      const int64_t at = gpus[i];
      for (size_t k = static_cast<size_t>(axis.size); k-- > 0;) {
        gpus[i * static_cast<size_t>(axis.size) + k] = at + static_cast<int64_t>(k) * axis.stride;
      }
    }
  }
  // Axes whose spans overlap (a stride below the reach of the axes inside it) are no mesh's, but still a set.
  if (!std::is_sorted(gpus.begin(), gpus.end())) std::sort(gpus.begin(), gpus.end());
  return gpus;
}

GroupPlacement place_group(const NetworkSpec& spec, std::span<const int64_t> gpus, Siblings siblings) {
  CHECK(!gpus.empty(), "a group has members");
  if (std::is_sorted(gpus.begin(), gpus.end())) return place_rising(spec, gpus, siblings);
  std::vector<int64_t> rising(gpus.begin(), gpus.end());
  std::sort(rising.begin(), rising.end());
  return place_rising(spec, rising, siblings);
}

GroupPlacement place_group(const NetworkSpec& spec, const MeshGroup& group, Siblings siblings) {
  return place_rising(spec, group.gpus(), siblings);
}

}  // namespace colossus
