#include "parallel/pipeline_schedule.h"

#include <fmt/format.h>

#include <algorithm>

namespace colossus {
namespace {

using Steps = std::vector<PipelineStep>;

Steps one_forward_one_backward(const PipelineShape& shape, int stage) {
  const int64_t m = shape.num_microbatches, warmup = std::min<int64_t>(m, shape.num_stages - stage);
  Steps steps;
  for (int64_t i = 0; i < warmup; ++i) steps.push_back({PipelineWork::kForward, 0, i});
  for (int64_t i = 0; i < m; ++i) {
    steps.push_back({PipelineWork::kBackward, 0, i});
    if (warmup + i < m) steps.push_back({PipelineWork::kForward, 0, warmup + i});
  }
  return steps;
}

// Microbatches go through the chunks in groups of num_stages: a group finishes one chunk before it starts the next. The
// last group is filled up with microbatches that do not exist.
Steps pieces_in_order(const PipelineShape& shape, PipelineWork work) {
  Steps steps;
  for (int64_t group = 0; group < shape.num_microbatches; group += shape.num_stages)
    for (int c = 0; c < shape.num_chunks; ++c)
      for (int64_t i = group; i < group + shape.num_stages; ++i)
        steps.push_back({work, work == PipelineWork::kForward ? c : shape.num_chunks - 1 - c, i});
  return steps;
}

Steps interleaved(const PipelineShape& shape, int stage) {
  const Steps forward = pieces_in_order(shape, PipelineWork::kForward);
  const Steps backward = pieces_in_order(shape, PipelineWork::kBackward);
  // Enough to reach the last piece and come back: two steps for each stage behind this one, and all chunks but the last
  // of one group.
  const int64_t warmup = 2 * int64_t{shape.num_stages - stage - 1} + int64_t{shape.num_chunks - 1} * shape.num_stages;
  Steps steps;
  size_t next = 0;
  while (next < forward.size() && static_cast<int64_t>(next) < warmup) steps.push_back(forward[next++]);
  for (const PipelineStep& step : backward) {
    if (next < forward.size()) steps.push_back(forward[next++]);
    steps.push_back(step);
  }
  // What is left keeps its order, so it cannot wait in a circle; a shorter last group of its own could.
  std::erase_if(steps, [&](const PipelineStep& step) { return step.microbatch >= shape.num_microbatches; });
  return steps;
}

// Stage s puts its weights' gradients s microbatches off: as many as the stages before it are ahead. So it holds no
// more than the first stage does, and has work left while the last backward passes travel down.
Steps zero_bubble(const PipelineShape& shape, int stage) {
  const int64_t m = shape.num_microbatches;
  int64_t next = std::min<int64_t>(m, shape.num_stages - stage), weights = 0;
  Steps steps;
  for (int64_t i = 0; i < next; ++i) steps.push_back({PipelineWork::kForward, 0, i});
  for (int64_t i = 0; i < m; ++i) {
    steps.push_back({PipelineWork::kBackwardInput, 0, i});
    if (i >= stage) steps.push_back({PipelineWork::kBackwardWeight, 0, weights++});
    if (next < m) steps.push_back({PipelineWork::kForward, 0, next++});
  }
  while (weights < m) steps.push_back({PipelineWork::kBackwardWeight, 0, weights++});
  return steps;
}

class Player {
 public:
  Player(const PipelineShape& shape, const std::vector<Steps>& stages, const PipelineTimes& times)
      : shape_(shape), stages_(stages), times_(times), position_(stages.size()), clock_(stages.size()) {
    figures_.peak.resize(stages.size());
    figures_.starts.resize(stages.size());
    held_.resize(stages.size());
    done_.assign(kNumPipelineWorks * num_pieces() * static_cast<size_t>(shape.num_microbatches), -1.0);
  }

  Result<PipelineFigures> play() {
    RETURN_IF_ERROR(check_steps());
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t s = 0; s < stages_.size(); ++s)
        while (position_[s] < stages_[s].size() && advance(s)) moved = true;
    }
    RETURN_IF_ERROR(status_);
    for (size_t s = 0; s < stages_.size(); ++s)
      if (position_[s] < stages_[s].size())
        return invalid(fmt::format("[stage {}] {} waits for what never comes", s, text(stages_[s][position_[s]])));
    RETURN_IF_ERROR(check_complete());
    figures_.makespan = *std::max_element(clock_.begin(), clock_.end());
    figures_.bubble_share = 1 - busy_ / (figures_.makespan * static_cast<double>(stages_.size()));
    return figures_;
  }

 private:
  static std::string text(const PipelineStep& step) {
    return fmt::format("{} of chunk {}, microbatch {}", pipeline_work_name(step.work), step.chunk, step.microbatch);
  }
  int64_t piece(size_t stage, int chunk) const {
    return int64_t{chunk} * shape_.num_stages + static_cast<int64_t>(stage);
  }

  size_t num_pieces() const { return static_cast<size_t>(shape_.num_stages) * static_cast<size_t>(shape_.num_chunks); }
  // When that was done; negative: not yet.
  double done(PipelineWork work, int64_t piece, int64_t microbatch) const {
    return done_[(static_cast<size_t>(microbatch) * num_pieces() + static_cast<size_t>(piece)) * kNumPipelineWorks +
                 static_cast<size_t>(work)];
  }
  double& done(PipelineWork work, int64_t piece, int64_t microbatch) {
    return done_[(static_cast<size_t>(microbatch) * num_pieces() + static_cast<size_t>(piece)) * kNumPipelineWorks +
                 static_cast<size_t>(work)];
  }

  // When the results a step needs are there; negative: not yet.
  double ready(size_t stage, const PipelineStep& step) const {
    const int64_t here = piece(stage, step.chunk), last = int64_t{shape_.num_stages} * shape_.num_chunks - 1;
    const auto of = [&](PipelineWork work, int64_t at, bool travels) {
      const double end = done(work, at, step.microbatch);
      return end < 0 ? end : end + (travels && shape_.num_stages > 1 ? times_.transfer : 0);
    };
    if (step.work == PipelineWork::kForward) return here == 0 ? 0 : of(step.work, here - 1, true);
    if (step.work == PipelineWork::kBackwardWeight) return of(PipelineWork::kBackwardInput, here, false);
    const double own = of(PipelineWork::kForward, here, false);
    if (own < 0 || here == last) return own;
    const double behind = of(step.work, here + 1, true);
    return behind < 0 ? behind : std::max(own, behind);
  }

  double duration(PipelineWork work, int64_t piece) const {
    const PieceTimes& times =
        times_.pieces.size() == 1 ? times_.pieces.front() : times_.pieces[static_cast<size_t>(piece)];
    switch (work) {
      case PipelineWork::kForward: return times.forward;
      case PipelineWork::kBackward: return times.backward_input + times.backward_weight;
      case PipelineWork::kBackwardInput: return times.backward_input;
      case PipelineWork::kBackwardWeight: return times.backward_weight;
    }
    return 0;
  }

  bool advance(size_t s) {
    const PipelineStep& step = stages_[s][position_[s]];
    const double start = ready(s, step);
    if (start < 0) return false;
    const int64_t here = piece(s, step.chunk);
    const double seconds = duration(step.work, here);
    figures_.starts[s].push_back(std::max(clock_[s], start));
    clock_[s] = figures_.starts[s].back() + seconds;
    busy_ += seconds;
    double& end = done(step.work, here, step.microbatch);
    if (end >= 0 && status_.ok()) status_ = invalid(fmt::format("[stage {}] {} is done twice", s, text(step)));
    end = clock_[s];
    if (step.work == PipelineWork::kForward) figures_.peak[s] = std::max(figures_.peak[s], ++held_[s]);
    if (step.work == PipelineWork::kBackward || step.work == PipelineWork::kBackwardWeight) --held_[s];
    ++position_[s];
    return true;
  }

  Status check_steps() const {
    for (size_t s = 0; s < stages_.size(); ++s)
      for (const PipelineStep& step : stages_[s])
        if (step.chunk < 0 || step.chunk >= shape_.num_chunks || step.microbatch < 0 ||
            step.microbatch >= shape_.num_microbatches)
          return invalid(fmt::format("[stage {}] {}, which is not there", s, text(step)));
    return ok_status();
  }

  Status check_complete() const {
    for (size_t s = 0; s < stages_.size(); ++s)
      for (int c = 0; c < shape_.num_chunks; ++c)
        for (int64_t i = 0; i < shape_.num_microbatches; ++i) {
          const auto has = [&](PipelineWork work) { return done(work, piece(s, c), i) >= 0; };
          const bool whole = has(PipelineWork::kBackward);
          const bool split = has(PipelineWork::kBackwardInput) && has(PipelineWork::kBackwardWeight);
          if (!has(PipelineWork::kForward) || whole == split)
            return invalid(
                fmt::format("[stage {}] chunk {}, microbatch {} is not done forward and backward, once", s, c, i));
        }
    return ok_status();
  }

  const PipelineShape& shape_;
  const std::vector<Steps>& stages_;
  const PipelineTimes& times_;
  std::vector<size_t> position_;
  std::vector<double> clock_;
  std::vector<int64_t> held_;
  std::vector<double> done_;  // by microbatch, piece and work; negative: not yet
  double busy_ = 0;
  PipelineFigures figures_;
  Status status_;
};

Status check_shape(const PipelineShape& shape) {
  if (shape.num_stages < 1 || shape.num_chunks < 1 || shape.num_microbatches < 1)
    return invalid(fmt::format("[pipeline] {} stages, {} chunks, {} microbatches; each must be at least 1",
                               shape.num_stages, shape.num_chunks, shape.num_microbatches));
  if (shape.num_chunks > 1 && shape.kind != PipelineScheduleKind::kInterleaved)
    return invalid(fmt::format("[pipeline] {} chunks a stage need schedule = \"interleaved\"", shape.num_chunks));
  return ok_status();
}

}  // namespace

std::string_view pipeline_work_name(PipelineWork work) {
  switch (work) {
    case PipelineWork::kForward: return "forward";
    case PipelineWork::kBackward: return "backward";
    case PipelineWork::kBackwardInput: return "backward_input";
    case PipelineWork::kBackwardWeight: return "backward_weight";
  }
  return "?";
}

Result<std::vector<Steps>> write_pipeline_schedule(const PipelineShape& shape) {
  RETURN_IF_ERROR(check_shape(shape));
  std::vector<Steps> stages;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    switch (shape.kind) {
      case PipelineScheduleKind::kOneForwardOneBackward:
        stages.push_back(one_forward_one_backward(shape, stage));
        break;
      case PipelineScheduleKind::kInterleaved: stages.push_back(interleaved(shape, stage)); break;
      case PipelineScheduleKind::kZeroBubble: stages.push_back(zero_bubble(shape, stage)); break;
    }
  }
  return stages;
}

Result<PipelineFigures> play_pipeline_schedule(const PipelineShape& shape, const std::vector<Steps>& stages,
                                               const PipelineTimes& times) {
  RETURN_IF_ERROR(check_shape(shape));
  CHECK(static_cast<int>(stages.size()) == shape.num_stages);
  CHECK(times.pieces.size() == 1 ||
        static_cast<int64_t>(times.pieces.size()) == int64_t{shape.num_stages} * shape.num_chunks);
  return Player(shape, stages, times).play();
}

}  // namespace colossus
