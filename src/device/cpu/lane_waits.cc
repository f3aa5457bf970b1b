#include "device/cpu/lane_waits.h"

#include <algorithm>
#include <map>

namespace colossus {

LaneWaits::LaneWaits(const Program& program, const LaneOrder& order)
    : begins_after_(order.waits), links_(program.operations.size(), Link::kNone), times_(program.operations.size()) {
  std::map<RankGroup, int> before;  // on each lane
  for (size_t at = 0; at < program.operations.size(); ++at) {
    const RankGroup* lane = group_of(program.operations[at].op);
    if (!lane) continue;
    links_[at] = lane->link;
    // A transfer that may outlive the run tells nobody when it was done.
    if (order.outlives_run[at]) continue;
    if (const auto found = before.find(*lane); found != before.end()) begins_after_[at].push_back(found->second);
    before[*lane] = static_cast<int>(at);
  }
}

int LaneWaits::last_done_of(std::span<const int> operations) const {
  return *std::ranges::max_element(operations, {}, [&](int at) { return times_[static_cast<size_t>(at)].ended; });
}

void LaneWaits::stood_still_for(std::span<const int> operations, double from, double until) {
  // Backward in time: what the last of them did, then what that had waited for before it began.
  while (!operations.empty() && until > from) {
    const auto at = static_cast<size_t>(last_done_of(operations));
    const double began = begins_after_[at].empty() ? from : std::clamp(times_[at].began, from, until);
    of(links_[at]) += until - began;
    until = began;
    operations = begins_after_[at];
  }
}

}  // namespace colossus
