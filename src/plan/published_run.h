// A published training run as a row of a table (configs/validation/training_runs.csv): what it tells of the model, the
// machine, the layout and the time, and how what it leaves out is filled. Rules speak of what rows say, never of one
// row.
#pragma once

#include <optional>
#include <string>

#include "io/csv.h"
#include "plan/layout.h"

namespace colossus {

struct PublishedRun {
  std::string name, source, gpu, note;
  std::string recipe;  // what the release's recipe for it turns on, as Calibration::recipes names it
  int64_t num_gpus = 0;
  ModelConfig model;
  Layout layout;
  double step_seconds = 0;     // published, or from the rate that was
  bool experts_again = false;  // "moe" is among what it computes again
  bool recompute_stated = false, microbatch_stated = false;
  // What of it is a guess of ours, for the table: "microbatch 1", "parameters sharded".
  std::string filled;
};

// The run of a row, or why it cannot be played.
Result<PublishedRun> read_published_run(const CsvTable& table, size_t row);

// Floating point operations of a step as Megatron-LM counts them: products of the layers and the head, the whole score
// square, forward once and backward twice (Narayanan et al. 2021, section 4; experts: those a token visits).
double model_flops_of_step(const ModelConfig& model, const Layout& layout);

}  // namespace colossus
