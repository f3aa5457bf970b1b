// One simulated step as a timeline of the trace event format: a process for each stage of the pipeline (its ranks do
// the same), with the lanes of a real trace (docs/parallelism.md).
#pragma once

#include "io/file_system.h"
#include "plan/step_time.h"

namespace colossus {

struct StepTraceOptions {
  std::string path;
  // Operations are written of so many passes of each stage, at its start; of all others the passes alone.
  int64_t passes_with_operations = 4;
};

// The whole programs of the layout's stages, played, on the schedule of the pipeline.
Status write_step_trace(FileSystem& files, const ModelConfig& model, const Layout& layout, const StepPrices& prices,
                        const StepTraceOptions& options);

}  // namespace colossus
