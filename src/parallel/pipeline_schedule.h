// Pipeline schedules as data: what each stage does, in order. Nothing here runs anything; the same lists drive ranks,
// the memory plan of a stage and the simulator.
//
// A model is cut into num_stages * num_chunks pieces; piece c * num_stages + s is chunk c of stage s. A microbatch goes
// forward through the pieces in order and backward in reverse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/fields.h"

namespace colossus {

enum class PipelineScheduleKind {
  // Narayanan et al. 2019 and 2021 ("PipeDream-Flush"): each stage holds at most num_stages - s microbatches.
  kOneForwardOneBackward,
  // Narayanan et al. 2021: several chunks a stage, for a bubble 1 / num_chunks as long.
  kInterleaved,
  // Qi et al. 2023, ZB-H1: the backward pass in two parts; gradients of weights fill the bubble.
  kZeroBubble,
};
inline auto field_choices(PipelineScheduleKind) {
  return std::to_array<FieldChoice<PipelineScheduleKind>>({{PipelineScheduleKind::kOneForwardOneBackward, "1f1b"},
                                                           {PipelineScheduleKind::kInterleaved, "interleaved"},
                                                           {PipelineScheduleKind::kZeroBubble, "zero_bubble"}});
}

enum class PipelineWork : uint8_t {
  kForward,
  kBackward,        // gradients of inputs and of weights
  kBackwardInput,   // gradients of inputs alone; the weights' follow
  kBackwardWeight,  // with what kBackwardInput left
};
inline constexpr size_t kNumPipelineWorks = 4;
std::string_view pipeline_work_name(PipelineWork work);

struct PipelineStep {
  PipelineWork work = PipelineWork::kForward;
  int chunk = 0;
  int64_t microbatch = 0;

  bool operator==(const PipelineStep&) const = default;
};

struct PipelineShape {
  PipelineScheduleKind kind = PipelineScheduleKind::kOneForwardOneBackward;
  int num_stages = 1;
  int num_chunks = 1;  // of a stage; more than one only for kInterleaved
  int64_t num_microbatches = 1;
};

// stages[s] is what stage s does in one step of training. Fails only for a shape that makes no sense.
Result<std::vector<std::vector<PipelineStep>>> write_pipeline_schedule(const PipelineShape& shape);

// Of one microbatch on one piece.
struct PieceTimes {
  double forward = 1;
  double backward_input = 1;  // kBackward takes both
  double backward_weight = 1;
};
struct PipelineTimes {
  std::vector<PieceTimes> pieces;  // by number; one: all are alike
  double transfer = 0;             // between neighbouring pieces on different stages
};

struct PipelineFigures {
  double makespan = 0;        // from the first forward to the last backward of any stage
  double bubble_share = 0;    // of all stages' time until makespan, the part without work
  std::vector<int64_t> peak;  // per stage: most (chunk, microbatch) pairs whose activations are held at once
  std::vector<std::vector<double>> starts;  // when each step of each stage's list begins
};

// Plays the lists by their dependencies. An error when they wait for each other in a circle, when work is missing, done
// twice, or done before what it needs on the same stage.
Result<PipelineFigures> play_pipeline_schedule(const PipelineShape& shape,
                                               const std::vector<std::vector<PipelineStep>>& stages,
                                               const PipelineTimes& times = {{{}}, 0});

}  // namespace colossus
