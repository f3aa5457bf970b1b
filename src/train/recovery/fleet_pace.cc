#include "train/recovery/fleet_pace.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace colossus {

double step_microbatches(std::span<const PaceGroup> groups, int64_t microbatches) {
  double sum = 0;
  for (const PaceGroup& group : groups) sum += group.speed * static_cast<double>(group.data_ranks);
  CHECK(sum > 0, "somebody has to work");
  if (microbatches == 0) return 1 / sum;
  // From the time of work cut at will, which is never too long, on to the next at which a rank finishes one more.
  constexpr double kRounding = 1e-9;
  const auto done_by = [&](double time) {
    double done = 0;
    for (const PaceGroup& group : groups) {
      done += std::floor(time * group.speed + kRounding) * static_cast<double>(group.data_ranks);
    }
    return done;
  };
  double time = static_cast<double>(microbatches) / sum;
  while (done_by(time) < static_cast<double>(microbatches)) {
    double next = std::numeric_limits<double>::infinity();
    for (const PaceGroup& group : groups) {
      next = std::min(next, (std::floor(time * group.speed + kRounding) + 1) / group.speed);
    }
    time = next;
  }
  return time;
}

FleetPace::FleetPace(std::vector<MachineKind> kinds, int64_t microbatches)
    : kinds_(std::move(kinds)), microbatches_(microbatches) {
  int end = 0;
  for (const MachineKind& kind : kinds_) {
    end_of_kind_.push_back(end += kind.machines);
    even_ &= kind.speed == kinds_.front().speed;
  }
}

int FleetPace::kind_of(int machine) const {
  const auto end = std::ranges::upper_bound(end_of_kind_, machine);
  DCHECK(end != end_of_kind_.end());
  return static_cast<int>(end - end_of_kind_.begin());
}

double FleetPace::block_speed(const Fleet& fleet, int block) const {
  const int width = fleet.shape.machines_per_block();
  double speed = std::numeric_limits<double>::infinity();
  for (int slot = block * width; slot < (block + 1) * width; ++slot) {
    const int machine = fleet.machine_of_slot[static_cast<size_t>(slot)];
    if (machine >= 0) speed = std::min(speed, kinds_[static_cast<size_t>(kind_of(machine))].speed);
  }
  return std::isfinite(speed) ? speed : kinds_.front().speed;
}

void FleetPace::rebuild(const Fleet& fleet) {
  rate_ = 0;
  num_blocks_ = fleet.num_blocks;
  data_ranks_per_block_ = fleet.shape.data_ranks_per_block();
  if (even_) return;
  speed_of_block_.clear();
  blocks_of_speed_.clear();
  for (int block = 0; block < fleet.num_blocks; ++block) {
    speed_of_block_.push_back(block_speed(fleet, block));
    ++blocks_of_speed_[speed_of_block_.back()];
  }
}

void FleetPace::replaced(const Fleet& fleet, int slot) {
  const int block = slot / fleet.shape.machines_per_block();
  if (even_ || block >= num_blocks_) return;
  double& speed = speed_of_block_[static_cast<size_t>(block)];
  const double now = block_speed(fleet, block);
  if (now == speed) return;
  rate_ = 0;
  if (--blocks_of_speed_[speed] == 0) blocks_of_speed_.erase(speed);
  ++blocks_of_speed_[now];
  speed = now;
}

double FleetPace::rate(int data_ranks) {
  if (rate_ > 0) return rate_;
  std::vector<PaceGroup> groups;
  if (even_) {
    groups.push_back({kinds_.front().speed, int64_t{num_blocks_} * data_ranks_per_block_});
  } else {
    for (const auto& [speed, blocks] : blocks_of_speed_) {
      groups.push_back({speed, int64_t{blocks} * data_ranks_per_block_});
    }
  }
  return rate_ = rate_of(groups, data_ranks);
}

double FleetPace::whole_rate(double day, int data_ranks) const {
  std::vector<PaceGroup> groups;
  for (const MachineKind& kind : kinds_) {
    if (kind.arrives_day <= day && kind.data_ranks > 0) groups.push_back({kind.speed, kind.data_ranks});
  }
  return rate_of(groups, data_ranks);
}

double FleetPace::rate_of(std::span<const PaceGroup> groups, int data_ranks) const {
  const PaceGroup even = {1, data_ranks};
  return step_microbatches({&even, 1}, microbatches_) / step_microbatches(groups, microbatches_);
}

}  // namespace colossus
