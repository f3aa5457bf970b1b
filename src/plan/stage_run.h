// A layout as a run of the training binary: what a rank of one stage is asked to do, small, for its programs to be
// written by what writes those of real runs.
#pragma once

#include <vector>

#include "plan/layout.h"
#include "train/rank_model.h"

namespace colossus {

struct StageRun {
  RunConfig run;
  Ranks ranks;  // rank 0's, without groups: nothing is sent
  RankModel model;
};

// Of so many layers, in one microbatch. Stages lie outermost, so a stage's ranks are those of a mesh without them. What
// ZeRO 2 and 3 exchange beside the passes is in the programs where the stack does as ours (StackConfig::data_overlap);
// for others they are those of stage 1, and what they exchange is priced by the layer (step_time.cc).
Result<StageRun> write_stage_run(const ModelConfig& model, const Layout& layout, const StackConfig& stack,
                                 int64_t num_layers);

// How these programs of the stage share the update; with ZeRO 2 and 3 the exchanges and gathers are put into them, as
// in a run (train/microbatches.h).
std::vector<UpdateGroup> share_programs(const StageRun& stage, const std::vector<Program*>& programs);

// What is on both ends of a pipeline is exchanged behind the passes.
void exchange_ends_behind(const StageRun& stage, std::vector<UpdateGroup>& groups);

// What ranks exchange in one operation of the update.
int64_t update_bucket_elements(const Layout& layout, const StackConfig& stack);

}  // namespace colossus
