// Which layouts of a model on a cluster train it fastest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "plan/calibration.h"
#include "plan/memory.h"
#include "plan/question.h"
#include "plan/step_time.h"
#include "plan/step_trace.h"

namespace colossus {

struct JudgedLayout {
  Layout layout;
  StepTime time;
  RankMemory memory;
  int64_t num_gpus = 0;    // that it uses
  double utilization = 0;  // model FLOPs over the bf16 peak of these (MFU)
  double tokens_per_second = 0;
};

// That programs may fill: libraries, communication buffers and fragments take the rest.
double usable_bytes(const GpuSpec& gpu);

// Everything of one layout. Fails where it is not legal; a layout that does not fit is judged all the same.
Result<JudgedLayout> judge(const PlanQuestion& question, const Calibration& calibration, const Layout& layout);
// The same with the layout's programs (write_rank_pieces), which do not depend on the cluster.
Result<JudgedLayout> judge(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
                           const RankPieces& pieces);

// The step of a layout as a timeline (plan/step_trace.h).
Result<std::vector<StageTimeline>> timeline_of(const PlanQuestion& question, const Calibration& calibration,
                                               const Layout& layout, const TimelineOptions& options);
Status write_trace_of(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
                      FileSystem& files, const std::string& path);

struct SearchOptions {
  size_t keep = 10;
  int num_threads = 0;  // 0: all cores
};
struct SearchResult {
  std::vector<JudgedLayout> best;        // the fastest first
  std::optional<JudgedLayout> smallest;  // where nothing fits: the one that needs least memory
  int64_t legal = 0, too_large = 0;      // layouts looked at, and of these such that do not fit
  int64_t too_slow = 0;                  // and such that do not fit with ZeRO 1, and with 2 or 3 would not be listed
};
// All legal layouts: tensor, context, pipeline with its schedule and chunks, expert and expert_tensor, microbatch,
// recomputation, each with the first of ZeRO's stages that fits. The data axis has a power of two of ranks, as the
// gradient's tree has leaves.
Result<SearchResult> search_layouts(const PlanQuestion& question, const Calibration& calibration,
                                    const SearchOptions& options);

}  // namespace colossus
