#include "plan/step_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "base/trace.h"
#include "parallel/pipeline_cut.h"
#include "plan/stage_run.h"
#include "train/trace_file.h"

namespace colossus {
namespace {

struct PlayedPass {
  Program program;
  PlayedProgram played;
};
// Of one piece, by work.
using PlayedPiece = std::map<PipelineWork, PlayedPass>;

Result<std::vector<PlayedPiece>> play_pieces(const ModelConfig& model, const Layout& layout, const StepPrices& prices) {
  ASSIGN_OR_RETURN(const StageRun whole, write_stage_run(model, layout, prices.stack, model.num_layers));
  const auto play_pass = [&](Program program) {
    PlayedPass pass{.program = std::move(program), .played = {}};
    pass.played =
        play(playable(pass.program), [&](const KernelWork& work) { return seconds_of_work(prices, layout, work); });
    return pass;
  };
  std::vector<PlayedPiece> pieces;
  const int64_t num_pieces = layout.mesh.pipeline * layout.mesh.chunks;
  if (num_pieces == 1) {
    pieces.emplace_back();
    Program microbatch = whole.model.microbatch;
    share_programs(whole, {&microbatch});
    pieces.back()[PipelineWork::kForward] = play_pass(std::move(microbatch));
    return pieces;
  }
  const bool split = layout.mesh.schedule == PipelineScheduleKind::kZeroBubble;
  const std::vector<LayerRange> ranges = cut_layers(model.num_layers, num_pieces);
  for (int64_t i = 0; i < num_pieces; ++i) {
    ASSIGN_OR_RETURN(PipelinePiece piece, cut_pipeline_piece(whole.model.microbatch,
                                                             {.layers = ranges, .piece = i, .split_backward = split}));
    std::vector<Program*> programs = {&piece.forward, &piece.backward};
    if (split) programs.push_back(&piece.backward_weight);
    share_programs(whole, programs);
    PlayedPiece played;
    played[PipelineWork::kForward] = play_pass(std::move(piece.forward));
    played[split ? PipelineWork::kBackwardInput : PipelineWork::kBackward] = play_pass(std::move(piece.backward));
    if (split) played[PipelineWork::kBackwardWeight] = play_pass(std::move(piece.backward_weight));
    pieces.push_back(std::move(played));
  }
  return pieces;
}

double seconds_of(const PlayedPiece& piece, PipelineWork work) {
  const auto found = piece.find(work);
  return found == piece.end() ? 0 : found->second.played.seconds;
}

TimelineLane& lane_of(StageTimeline& stage, const std::string& name) {
  const auto found = std::ranges::find(stage.lanes, name, &TimelineLane::name);
  if (found != stage.lanes.end()) return *found;
  return stage.lanes.emplace_back(TimelineLane{name, {}});
}

void add_operations(const PlayedPass& pass, double start, StageTimeline& stage) {
  for (size_t i = 0; i < pass.program.operations.size(); ++i) {
    const Operation& operation = pass.program.operations[i];
    const auto& [begin, end] = pass.played.operations[i];
    if (end <= begin) continue;
    const RankGroup* group = group_of(operation.op);
    lane_of(stage, group ? group->name() : kComputeLane)
        .spans.push_back({.begin = start + begin,
                          .end = start + end,
                          .name = std::string(op_name(operation.op)),
                          .category = std::string(phase_name(operation.phase)),
                          .scope = operation.scope,
                          .sent_bytes = static_cast<int64_t>(cost_of(pass.program, operation).bytes_sent)});
  }
}

StageTimeline lay_out_stage(const Layout& layout, const std::vector<PlayedPiece>& pieces, int64_t stage,
                            const std::vector<PipelineStep>& steps, const std::vector<double>& starts,
                            const TimelineOptions& options) {
  StageTimeline timeline;
  std::array<bool, kNumPipelineWorks> seen{};
  for (size_t i = 0; i < steps.size(); ++i) {
    const PipelineWork work = steps[i].work;
    const PlayedPiece& piece = pieces[static_cast<size_t>(steps[i].chunk * layout.mesh.pipeline + stage)];
    const auto pass = piece.find(work);
    if (pass == piece.end()) continue;  // of a whole program both passes are in the forward one
    const std::string name = pieces.size() == 1 ? "microbatch" : std::string(pipeline_work_name(work));
    lane_of(timeline, "passes")
        .spans.push_back({.begin = starts[i],
                          .end = starts[i] + pass->second.played.seconds,
                          .name = fmt::format("{} {}", name, steps[i].microbatch),
                          .category = "pass",
                          .scope = layout.mesh.chunks > 1 ? fmt::format("chunk {}", steps[i].chunk) : "",
                          .work = work});
    const bool is_first = !std::exchange(seen[static_cast<size_t>(work)], true);
    if (static_cast<int64_t>(i) < options.first_passes || (options.first_of_each_work && is_first))
      add_operations(pass->second, starts[i], timeline);
  }
  return timeline;
}

}  // namespace

Result<std::vector<StageTimeline>> play_timeline(const ModelConfig& model, const Layout& layout,
                                                 const StepPrices& prices, const TimelineOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<PlayedPiece> pieces, play_pieces(model, layout, prices));
  const int64_t stages = layout.mesh.pipeline;
  const PipelineShape shape{.kind = layout.mesh.schedule,
                            .num_stages = static_cast<int>(stages),
                            .num_chunks = static_cast<int>(layout.mesh.chunks),
                            .num_microbatches = layout.num_microbatches()};
  PipelineTimes times{.pieces = {}, .transfer = 0};
  for (const PlayedPiece& piece : pieces)
    times.pieces.push_back(
        {seconds_of(piece, PipelineWork::kForward),
         seconds_of(piece, PipelineWork::kBackward) + seconds_of(piece, PipelineWork::kBackwardInput),
         seconds_of(piece, PipelineWork::kBackwardWeight)});
  ASSIGN_OR_RETURN(const auto lists, write_pipeline_schedule(shape));
  ASSIGN_OR_RETURN(const PipelineFigures figures, play_pipeline_schedule(shape, lists, times));
  std::vector<StageTimeline> timelines;
  for (int64_t stage = 0; stage < stages; ++stage)
    timelines.push_back(lay_out_stage(layout, pieces, stage, lists[static_cast<size_t>(stage)],
                                      figures.starts[static_cast<size_t>(stage)], options));
  return timelines;
}

Status write_step_trace(FileSystem& files, const ModelConfig& model, const Layout& layout, const StepPrices& prices,
                        const StepTraceOptions& options) {
  ASSIGN_OR_RETURN(const std::vector<StageTimeline> stages,
                   play_timeline(model, layout, prices, {.first_passes = options.passes_with_operations}));
  std::vector<std::string> events;
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    Trace trace;
    for (const TimelineLane& lane : stages[stage].lanes)
      for (const TimelineSpan& span : lane.spans) {
        const int32_t label = trace.label(
            {.name = span.name, .category = span.category, .scope = span.scope, .sent_bytes = span.sent_bytes});
        trace.lane(lane.name).add({span.begin, span.end, 0, label});
      }
    events.push_back(trace.events(static_cast<int64_t>(stage),
                                  fmt::format("stage {} ({} ranks)", stage, layout.mesh.stage_ranks()), 0));
  }
  return write_trace_events(files, options.path, events);
}

}  // namespace colossus
