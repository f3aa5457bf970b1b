// The same question for all combinations of values of a few of its settings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/basis.h"
#include "plan/search.h"

namespace colossus {

struct SweepAxis {
  // An axis of a layout (question.h: layout_axes), "batch_tokens", "seq", "gpus", "dtype", or a number of the cluster
  // by its path: "network.nic_gb_per_second", "pools[h100].gpu.memory_gb".
  std::string name;
  std::vector<std::string> values;
};
// "tensor=1,2,4,8".
Result<SweepAxis> read_sweep_axis(const std::string& text);

struct SweepQuestion {
  PlanQuestion question;
  // Assignments of a layout. With any, or with an axis of a layout, that layout is judged; else the best one is
  // searched for at every point. Ranks that no assignment takes go to `shard` where neither that nor `data` is given:
  // the largest power of two of them.
  std::vector<std::string> layout;
  std::vector<SweepAxis> axes;
};

struct SweepPoint {
  std::vector<std::string> values;     // as the axes
  std::string refused;                 // why there is no such step; "": there is
  std::optional<JudgedLayout> judged;  // also of a layout that is refused because it does not fit
  Basis basis;
};

inline constexpr size_t kMostSweepPoints = 10'000;

// All combinations, the last axis fastest. Fails for an axis that is none, named twice, or without values, and for more
// than kMostSweepPoints; a combination that is not legal is a point like the others.
Result<std::vector<SweepPoint>> play_sweep(const SweepQuestion& sweep, const Calibration& calibration,
                                           const std::vector<CheckedRun>& checked);

}  // namespace colossus
