// One simulated step as a timeline: a row of lanes for each stage of the pipeline (its ranks do the same), with the
// lanes of a real trace (docs/parallelism.md). The passes of the microbatches; the update follows them.
#pragma once

#include <string>
#include <vector>

#include "io/file_system.h"
#include "plan/step_time.h"

namespace colossus {

struct TimelineSpan {
  double begin = 0, end = 0;  // seconds
  std::string name;           // "forward 3", or the operation
  std::string category;       // "pass", or the operation's phase
  std::string scope;
  int64_t sent_bytes = 0;
  PipelineWork work = PipelineWork::kForward;  // of a pass
};
struct TimelineLane {
  std::string name;  // "passes", "compute", or the group that communicates
  std::vector<TimelineSpan> spans;
};
struct StageTimeline {
  std::vector<TimelineLane> lanes;  // passes first
};

// Of which passes the operations are written; of all others the passes alone.
struct TimelineOptions {
  int64_t first_passes = 0;         // so many of each stage, at its start
  bool first_of_each_work = false;  // the first forward and the first backward pass of each stage
};

// The whole programs of the layout's stages, played, on the schedule of the pipeline.
Result<std::vector<StageTimeline>> play_timeline(const ModelConfig& model, const Layout& layout,
                                                 const StepPrices& prices, const TimelineOptions& options);

struct StepTraceOptions {
  std::string path;
  int64_t passes_with_operations = 4;
};

// The same in the trace event format, for Perfetto: a process for each stage.
Status write_step_trace(FileSystem& files, const ModelConfig& model, const Layout& layout, const StepPrices& prices,
                        const StepTraceOptions& options);

}  // namespace colossus
