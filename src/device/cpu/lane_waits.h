// Who lets the compute lane wait. What it stands still for can itself be late because of a third lane: an all-gather
// that begins when a neighbour's activations are there has taken its own time alone.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "program/lane_order.h"

namespace colossus {

// Of one run of a program. Times are in seconds on one clock. An operation's times are told by the thread that runs it;
// the compute lane reads them once it knows the operation to be done.
class LaneWaits {
 public:
  LaneWaits(const Program& program, const LaneOrder& order);

  void begin_run() { seconds_ = {}; }
  void set_times(int operation, double began, double ended) { times_[static_cast<size_t>(operation)] = {began, ended}; }
  // The compute lane stood still until the last of `operations`, all of other lanes, was done.
  void stood_still_for(std::span<const int> operations, double from, double until);
  // It waited for a transfer of an earlier run.
  void waited_for(Link link, double seconds) { of(link) += seconds; }

  // How long it waited in this run because of groups with this link.
  double seconds(Link link) const { return seconds_[static_cast<size_t>(link)]; }

 private:
  struct Times {
    double began = 0, ended = 0;
  };

  double& of(Link link) { return seconds_[static_cast<size_t>(link)]; }
  int last_done_of(std::span<const int> operations) const;

  // By operation: what it begins after, on other lanes and, for the last of them, on its own.
  std::vector<std::vector<int>> begins_after_;
  std::vector<Link> links_;  // by operation; kNone on the compute lane
  std::vector<Times> times_;
  std::array<double, static_cast<size_t>(Link::kParameters) + 1> seconds_{};
};

}  // namespace colossus
