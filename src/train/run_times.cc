#include "train/run_times.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace colossus {
namespace {

constexpr double kShortest = 1e-9;  // clocks have steps, and paces are above 0

double take_median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  const double median = *middle;
  values.clear();
  return median;
}

}  // namespace

double RankSeconds::all_work() const { return std::accumulate(of_work.begin(), of_work.end(), 0.0); }

void RunTimes::add(const Executable& executable, double seconds) {
  using enum Link;
  for (const Link link : {kFromPrevious, kToNext, kFromNext, kToPrevious, kEnds, kGradients, kParameters})
    seconds -= executable.waited_seconds(link);
  of_stage_.push_back(std::max(seconds, kShortest));
  own_.push_back(std::max(seconds - executable.waited_seconds(kNone), kShortest));
}

bool RunTimes::take(PipelineWork work, RankSeconds& rank) {
  if (own_.empty()) return false;
  rank.of_work[static_cast<size_t>(work)] += take_median(of_stage_);
  rank.own += take_median(own_);
  return true;
}

}  // namespace colossus
