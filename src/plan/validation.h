// Published runs played on our clusters: predicted beside published.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "plan/calibration.h"
#include "plan/cluster.h"
#include "plan/published_run.h"
#include "plan/rank_pieces.h"
#include "plan/step_time.h"

namespace colossus {

struct PlayedRun {
  std::string name;
  int line = 0;         // of the table
  std::string refused;  // why it cannot be played; "": it was
  PublishedRun run;
  std::string stack;
  std::string gpu;  // that it was played on, as its cluster calls it
  StepTime time;
  bool used_to_fit = false;

  double error() const { return time.seconds / run.step_seconds - 1; }
};

// What does not change with the calibration: written once, played many times.
class RunToPlay {
 public:
  // Refusals are in `played().refused`.
  static RunToPlay create(const CsvTable& table, size_t row, const Calibration& calibration, FileSystem& files,
                          const std::string& clusters);

  bool refused() const { return !played_.refused.empty(); }
  bool used_to_fit() const { return played_.used_to_fit; }
  PlayedRun play(const Calibration& calibration) const;

 private:
  PlayedRun played_;
  std::shared_ptr<const ClusterConfig> cluster_;
  std::shared_ptr<const RankPieces> pieces_;
};

// Half of all rows, by a hash of their names; the others are only checked. A table's column `fit` (yes, no) says it
// otherwise.
bool is_used_to_fit(const std::string& name);

struct ValidationSummary {
  size_t rows = 0, refused = 0;
  double mean_error = 0;    // of |error|
  double worst_decile = 0;  // the 90th percentile of |error|
};
ValidationSummary summarize(const std::vector<PlayedRun>& runs);

}  // namespace colossus
